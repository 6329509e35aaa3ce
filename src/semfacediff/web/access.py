"""What reaches the page: uploads, which the server names itself."""

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from semfacediff.errors import UserError
from semfacediff.web.files import Files


def upload_routes(files: Files) -> list[Route]:
    """Routes in place of Gradio's own, which names uploads by their content: equal ones would share a file."""

    async def upload(request: Request) -> Response:
        async with request.form(max_files=1) as form:
            sent = [f for f in form.getlist("files") if isinstance(f, UploadFile)]
            try:
                kept = [await run_in_threadpool(files.keep, f.filename or "", await f.read()) for f in sent]
            except (UserError, OSError) as e:
                return PlainTextResponse(str(e), 503)
        return JSONResponse(kept)

    def progress(_: Request) -> Response:
        return PlainTextResponse('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    return [
        Route("/gradio_api/upload", upload, methods=["POST"]),
        Route("/gradio_api/upload_progress", progress),
    ]
