"""The server of moto in a thread, and a client that arranges instances in it."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal
from xml.etree import ElementTree as ET

from aiohttp import ClientSession
from moto.server import ThreadedMotoServer

from booking_operator.cloud.aws.tags import APPLICATION_TAG

REGION = "eu-west-1"
ACCOUNT = "123456789012"
"""The default account of moto. All access keys that moto did not issue belong to it."""
_READS = 3
"""The attempts of a read. moto may answer 500 while another of its threads modifies the data."""
_IMAGE = "ami-12c6146b"  # an image that exists in moto


@contextmanager
def run_moto() -> Iterator[str]:
    """Run a moto server on loopback, and yield its URL. All moto servers of a process share their state."""
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
    """A client of moto that bypasses the proxy, so that its calls are not recorded.

    Tests use it for actions of other users, and to read the real states. `changed` is called with the account
    and region of each change.
    """

    def __init__(
        self,
        url: str,
        http: ClientSession,
        changed: Callable[[str, str], None] = lambda *_: None,
        account: str = "",
    ) -> None:
        self.url = url
        self._http = http
        self._changed = changed
        self._account = account

    def of(self, account: str) -> "Moto":
        """The same server, as the given account sees it."""
        return Moto(self.url, self._http, self._changed, account)

    async def reset(self) -> None:
        """Delete all instances."""
        async with self._http.post(f"{self.url}/moto-api/reset") as reply:
            reply.raise_for_status()

    async def call(
        self, action: str, region: str = REGION, account: str = "", *, key: str = "test", **params: str
    ) -> ET.Element:
        """Call any action, and return the XML of its reply without namespaces.

        `__` in a parameter name stands for a dot. The account is that of the access key `key`, unless
        `account` is given.
        """
        form = {name.replace("__", "."): value for name, value in params.items()}
        account = account or self._account
        service, version = _service(action)
        scope = f"{key}/20260101/{region}/{service}/aws4_request"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}"}
        headers |= {"x-moto-account-id": account} if account else {}
        data = {"Action": action, "Version": version, **form}
        reads = action.startswith("Describe")
        text = await self._posted(data, headers, tries=_READS if reads else 1)
        if not reads:
            self._changed(account or ACCOUNT, region)
        return ET.fromstring(text)  # noqa: S314 - moto's own reply

    async def _posted(self, data: dict[str, str], headers: dict[str, str], tries: int) -> str:
        async with self._http.post(self.url, data=data, headers=headers) as reply:
            text = re.sub(r'\sxmlns="[^"]*"', "", await reply.text())
        if reply.status == 500 and tries > 1:
            return await self._posted(data, headers, tries - 1)
        if reply.status >= 400:
            raise AssertionError(f"{data['Action']}: {text}")
        return text

    async def create_instances(
        self,
        tag: str | None,
        n: int = 1,
        *,
        state: Literal["running", "stopped"] = "stopped",
        region: str = REGION,
        account: str = "",
        hibernate: bool = False,
        instance_type: str = "m5.large",
        zone: str = "",
        **tags: str,
    ) -> list[str]:
        """Create `n` instances in `state`, of the group `tag` or without a group; return their sorted ids."""
        params = {"ImageId": _IMAGE, "MinCount": str(n), "MaxCount": str(n), "InstanceType": instance_type}
        params["Placement__AvailabilityZone"] = zone or f"{region}a"
        if hibernate:
            params["HibernationOptions__Configured"] = "true"
        all_tags = [*([(APPLICATION_TAG, tag)] if tag is not None else []), *tags.items()]
        for number, (key, value) in enumerate(all_tags, 1):
            params["TagSpecification__1__ResourceType"] = "instance"
            params[f"TagSpecification__1__Tag__{number}__Key"] = key
            params[f"TagSpecification__1__Tag__{number}__Value"] = value
        reply = await self.call("RunInstances", region, account, **params)
        ids = sorted(id_.text or "" for id_ in reply.iterfind("instancesSet/item/instanceId"))
        if state == "stopped":
            await self.change("StopInstances", ids, region, account)
        return ids

    async def create_groups(
        self,
        tags: Sequence[str],
        n: int = 1,
        *,
        state: Literal["running", "stopped"] = "stopped",
        region: str = REGION,
    ) -> dict[str, list[str]]:
        """Create `n` instances for each group, in one launch, because moto is slow with many launches."""
        ids = await self.create_instances(None, n * len(tags), state=state, region=region)
        groups = {tag: ids[n * number : n * (number + 1)] for number, tag in enumerate(tags)}
        for tag, members in groups.items():
            named = {f"ResourceId__{number}": id_ for number, id_ in enumerate(members, 1)}
            await self.call("CreateTags", region, Tag__1__Key=APPLICATION_TAG, Tag__1__Value=tag, **named)
        return groups

    async def create_database(
        self, name: str, tag: str, *, kind: str = "db", region: str = REGION, **params: str
    ) -> str:
        """Create a running DB instance, or with `kind="cluster"` a cluster; return its id."""
        noun, engine = ("DBCluster", "aurora-postgresql") if kind == "cluster" else ("DBInstance", "postgres")
        own = {f"{noun}Identifier": name, "Engine": engine, "MasterUsername": "root"}
        own |= {"DBInstanceClass": "db.m5.large", "AllocatedStorage": "20"} if kind == "db" else {}
        tags = {"Tags__Tag__1__Key": APPLICATION_TAG, "Tags__Tag__1__Value": tag}
        own |= {"MasterUserPassword": "not-a-secret"} | (tags if tag else {})
        await self.call(f"Create{noun}", region, **own | params)
        return f"{kind}:{name}"

    async def change(self, action: str, ids: Sequence[str], region: str = REGION, account: str = "") -> None:
        """Start, stop or terminate instances, as another user may do."""
        named = {f"InstanceId__{i}": id_ for i, id_ in enumerate(ids, 1)}
        await self.call(action, region, account, **named)

    async def pages(self, region: str = REGION, account: str = "") -> list[ET.Element]:
        """All instances, as the pages of DescribeInstances. MaxResults counts reservations in moto."""
        found: list[ET.Element] = []
        token = ""
        while token or not found:
            more = {"NextToken": token} if token else {}
            found.append(await self.call("DescribeInstances", region, account, MaxResults="1000", **more))
            token = found[-1].findtext("nextToken", "")
        return found

    async def states(self, region: str = REGION, account: str = "") -> dict[str, str]:
        """The real states of all instances, by id. moto has no transitions."""
        return {
            item.findtext("instanceId", ""): item.findtext("instanceState/name", "")
            for page in await self.pages(region, account)
            for item in page.iterfind("reservationSet/item/instancesSet/item")
        }


def _service(action: str) -> tuple[str, str]:
    """The service of an action, and its API version."""
    if action.startswith("AssumeRole"):
        return "sts", "2011-06-15"
    return ("rds", "2014-10-31") if "DB" in action else ("ec2", "2016-11-15")
