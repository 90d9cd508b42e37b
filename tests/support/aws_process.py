"""The proxy as a separate process, so that its work does not slow down the process under measurement.

    python -m tests.support.aws_process --moto-url http://127.0.0.1:5000 --limits --cached

prints its URL and that of moto as one line of JSON. `GET /-/calls` returns the recorded calls. With
`/-/calls?region=eu-west-1`, it returns those of one region; with `/-/calls?since=100`, those from an index
on. Methods of `AwsProxy` are available as `POST /-/storm` and so on, with their keyword arguments as a JSON
object::

    curl -d '{"throttled": 0.3, "reset": 0.05, "seed": 1}' $URL/-/storm
    curl -d '{"tag": "web", "n": 2, "region": "eu-west-1"}' $URL/-/create_instances
    curl -d '{"transition_seconds": 2}' $URL/-/set
"""

import argparse
import asyncio
import inspect
import json
import signal
import sys
from typing import Any

from aiohttp import web

from tests.support.aws import AwsProxy
from tests.support.aws_call import Call

_SETTINGS = frozenset({"transition_seconds", "stale_seconds", "cached"})


class Control:
    """HTTP routes that control a proxy and return its recorded calls."""

    def __init__(self, aws: AwsProxy) -> None:
        self._aws = aws
        does = (
            aws.calm,
            aws.create_groups,
            aws.create_instances,
            aws.curse,
            aws.delay,
            aws.down,
            aws.drain,
            aws.drop,
            aws.enforce_limits,
            aws.exhaust,
            aws.fail,
            aws.lose_reply,
            aws.pardon,
            aws.protect,
            aws.replenish,
            aws.states,
            aws.storm,
            aws.up,
        )
        self._does = {do.__name__: do for do in does}
        aws.app.router.add_get("/-/calls", self._calls)
        aws.app.router.add_post("/-/set", self._set)
        aws.app.router.add_post("/-/{name}", self._do)

    async def _calls(self, request: web.Request) -> web.Response:
        since, region = int(request.query.get("since", "0")), request.query.get("region")
        calls = (call for call in self._aws.calls[since:] if region is None or call.region == region)
        return web.json_response([_shown(call) for call in calls])

    async def _set(self, request: web.Request) -> web.Response:
        given: dict[str, Any] = await request.json()
        if unknown := given.keys() - _SETTINGS:
            return _complaint(
                f"there is no setting {unknown.pop()!r}; there are {', '.join(sorted(_SETTINGS))}"
            )
        for name, value in given.items():
            setattr(self._aws, name, value)
        return web.json_response(None)

    async def _do(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        do = self._does.get(name)
        if do is None:
            return _complaint(f"there is no {name!r}; there are {', '.join(sorted(self._does))}")
        given: dict[str, Any] = await request.json() if request.can_read_body else {}
        try:
            done: Any = do(**given)
            if inspect.isawaitable(done):
                done = await done
        except (AssertionError, TypeError, ValueError) as error:
            return _complaint(f"{name}: {error}")
        return web.json_response(done)


def _complaint(text: str) -> web.Response:
    return web.Response(status=400, text=text)


def _shown(call: Call) -> dict[str, Any]:
    return {
        "action": call.action,
        "region": call.region,
        "account": call.account,
        "at": call.at.isoformat(),
        "status": call.status,
        "instance_ids": call.instance_ids,
    }


async def _run(options: argparse.Namespace) -> None:
    aws = AwsProxy(
        options.moto_url,
        host=options.host,
        port=options.port,
        transition_seconds=options.transition_seconds,
        stale_seconds=options.stale_seconds,
        cached=options.cached,
    )
    if options.limits:
        aws.enforce_limits()
    Control(aws)
    async with aws:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        sys.stdout.write(json.dumps({"url": aws.url, "moto_url": aws.moto.url}) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.aws_process")
    parser.add_argument("--moto-url", help="where moto listens; default: one in this process")
    parser.add_argument("--host", default="127.0.0.1", help="address of the proxy; moto stays on loopback")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--transition-seconds", type=float, default=0.0)
    parser.add_argument("--stale-seconds", type=float, default=0.0)
    parser.add_argument("--limits", action="store_true", help="enforce EC2's published request limits")
    parser.add_argument("--cached", action="store_true", help="answer Describes in moto's place: faster")
    options = parser.parse_args()
    # A thread that builds a long reply must yield to the event loop, which records arrivals, within half a
    # millisecond.
    sys.setswitchinterval(0.0005)
    asyncio.run(_run(options))


if __name__ == "__main__":
    main()
