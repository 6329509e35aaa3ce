"""Access control: only requests from the server's own pages; uploads under names that the server chooses."""

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from semfacediff.errors import UserError
from semfacediff.web.files import Files, safe_name

MAX_UPLOAD_MB = 500
"""Enough for the largest photo that is decoded, in any format."""
_MAX_BODY = MAX_UPLOAD_MB * 1_000_000 + 10_000


class OwnPagesOnly:
    """ASGI middleware that blocks other sites, including those that resolve their own host name to this computer.

    Another ``Host`` or a foreign ``Origin`` gets a 403, a body that is too large or of unknown size a 413.
    """

    def __init__(self, app: ASGIApp, port: int):
        self.app = app
        self.hosts = [f"{name}:{port}" for name in ("127.0.0.1", "localhost")]
        self.hosts += ["127.0.0.1", "localhost"] if port == 80 else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None if scope["type"] == "lifespan" else self._refused(Headers(scope=scope))
        await (refused or self.app)(scope, receive, send)

    def _refused(self, headers: Headers) -> Response | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        own = [f"http://{host}" for host in self.hosts]
        if len(hosts) != 1 or hosts[0] not in self.hosts or not set(origins) <= set(own):
            return PlainTextResponse("Only pages of this server on this computer may send requests", 403)
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal() or int(length) > _MAX_BODY:
            return PlainTextResponse(f"Expected a Content-Length of at most {_MAX_BODY} bytes", 413)
        return None


def upload_routes(files: Files) -> list[BaseRoute]:
    """Replacements of Gradio's upload routes, which name files by their content: equal uploads would share a file."""

    def store(sent: UploadFile) -> str:
        return files.uploads.write("photo", safe_name(sent.filename or ""), sent.file.read())

    async def upload(request: Request) -> Response:
        async with request.form(max_files=1) as form:
            sent = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
            try:
                return JSONResponse([await run_in_threadpool(store, part) for part in sent])
            except (UserError, OSError) as e:
                return PlainTextResponse(str(e), 503)

    def progress(_: Request) -> Response:
        return PlainTextResponse('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    return [Route("/gradio_api/upload", upload, methods=["POST"]), Route("/gradio_api/upload_progress", progress)]
