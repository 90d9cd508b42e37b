"""moto's server in a thread, and what it takes to arrange instances in it."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal
from xml.etree import ElementTree as ET

from aiohttp import ClientSession
from moto.server import ThreadedMotoServer

from booking_operator.cloud.tags import APPLICATION_TAG

REGION = "eu-west-1"
_IMAGE = "ami-12c6146b"  # one that moto knows


@contextmanager
def run_moto() -> Iterator[str]:
    """Run a server of moto's on loopback, and yield its URL. All servers of a process share their state."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        if server._server is not None:
            server._server.server_close()


class Moto:
    """Speaks to moto past the proxy, unrecorded: what others do to instances, and what is true of them."""

    def __init__(self, url: str, http: ClientSession, account: str = "") -> None:
        self.url = url
        self._http = http
        self._account = {"x-moto-account-id": account} if account else {}

    def of(self, account: str) -> "Moto":
        """The same server, as the account of that number sees it."""
        return Moto(self.url, self._http, account)

    async def reset(self) -> None:
        """Forget all instances."""
        async with self._http.post(f"{self.url}/moto-api/reset") as reply:
            reply.raise_for_status()

    async def call(self, action: str, region: str = REGION, **params: str) -> ET.Element:
        """Call any action of EC2 or RDS; the reply's XML, without namespaces. `__` in names is a dot."""
        form = {name.replace("__", "."): value for name, value in params.items()}
        service, version = ("rds", "2014-10-31") if "DB" in action else ("ec2", "2016-11-15")
        scope = f"test/20260101/{region}/{service}/aws4_request"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}"} | self._account
        data = {"Action": action, "Version": version, **form}
        async with self._http.post(self.url, data=data, headers=headers) as reply:
            text = re.sub(r'\sxmlns="[^"]*"', "", await reply.text())
            if reply.status >= 400:
                raise AssertionError(f"{action}: {text}")
            return ET.fromstring(text)  # noqa: S314 - moto's own reply

    async def create_instances(
        self,
        tag: str | None,
        n: int = 1,
        *,
        state: Literal["running", "stopped"] = "stopped",
        region: str = REGION,
        hibernate: bool = False,
        **tags: str,
    ) -> list[str]:
        """Create `n` instances of the group `tag`, or of none, in `state`; their ids, sorted."""
        params = {"ImageId": _IMAGE, "MinCount": str(n), "MaxCount": str(n), "InstanceType": "m5.large"}
        if hibernate:
            params["HibernationOptions__Configured"] = "true"
        all_tags = [*([(APPLICATION_TAG, tag)] if tag is not None else []), *tags.items()]
        for number, (key, value) in enumerate(all_tags, 1):
            params["TagSpecification__1__ResourceType"] = "instance"
            params[f"TagSpecification__1__Tag__{number}__Key"] = key
            params[f"TagSpecification__1__Tag__{number}__Value"] = value
        reply = await self.call("RunInstances", region, **params)
        ids = sorted(id_.text or "" for id_ in reply.iterfind("instancesSet/item/instanceId"))
        if state == "stopped":
            await self.change("StopInstances", ids, region)
        return ids

    async def create_database(
        self, name: str, tag: str, *, kind: str = "db", region: str = REGION, **params: str
    ) -> str:
        """Create a DB instance, or with `kind="cluster"` a cluster, of the group `tag`; it runs. Its id."""
        noun, engine = ("DBCluster", "aurora-postgresql") if kind == "cluster" else ("DBInstance", "postgres")
        own = {f"{noun}Identifier": name, "Engine": engine, "MasterUsername": "root"}
        own |= {"DBInstanceClass": "db.m5.large", "AllocatedStorage": "20"} if kind == "db" else {}
        tags = {"Tags__Tag__1__Key": APPLICATION_TAG, "Tags__Tag__1__Value": tag}
        own |= {"MasterUserPassword": "not-a-secret"} | (tags if tag else {})
        await self.call(f"Create{noun}", region, **own | params)
        return f"{kind}:{name}"

    async def change(self, action: str, ids: Sequence[str], region: str = REGION) -> None:
        """Start, stop or terminate instances as somebody else would."""
        await self.call(action, region, **{f"InstanceId__{i}": id_ for i, id_ in enumerate(ids, 1)})

    async def states(self, region: str = REGION) -> dict[str, str]:
        """What has really become of all instances, by id; transitions are no matter of moto's."""
        reply = await self.call("DescribeInstances", region, MaxResults="1000")
        items = reply.iterfind("reservationSet/item/instancesSet/item")
        return {item.findtext("instanceId", ""): item.findtext("instanceState/name", "") for item in items}
