"""Routes of cases: scans, what was painted on them, and the series they came from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from imbalanceseg.errors import InputError
from imbalanceseg.server.http_errors import ERRORS
from imbalanceseg.server.limits import GIB
from imbalanceseg.server.request_body import in_time, pieces, receiving
from imbalanceseg.server.requests import Address
from imbalanceseg.server.responses import AnnotationView, CaseView
from imbalanceseg.server.service import EngineService
from imbalanceseg.server.volume_upload import VolumeUpload

router = APIRouter(prefix="/v1/cases", tags=["cases"], responses=ERRORS)

CaseAddress = Annotated[Address, Path(description="SHA-256 of voxels and geometry.")]
_NRRD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def the_service(request: Request) -> EngineService:
    """The service behind the app."""
    service: EngineService = request.app.state.service
    return service


Service = Annotated[EngineService, Depends(the_service)]


@router.head("/{case}")
def is_there(case: CaseAddress, service: Service) -> Response:
    """Whether a scan is here already, so that it need not be sent: 200 or 404."""
    service.library.case(case)
    return Response()


@router.get("/{case}")
def describe(case: CaseAddress, service: Service) -> CaseView:
    """A scan that is here."""
    return CaseView.model_validate(service.library.case(case))


@router.get("")
def all_cases(service: Service) -> list[CaseView]:
    """All scans that are here, the latest first."""
    return [CaseView.model_validate(case) for case in service.store.cases()]


@router.put("/{case}", status_code=201, openapi_extra=_NRRD)
async def put_case(case: CaseAddress, request: Request, service: Service) -> CaseView:
    """Send a scan under its address.

    The body is a NRRD file, raw or gzip, in LPS or RAS. Several channels are a list: a fourth,
    slowest axis of the kind `list`. The address is compared with what arrives.
    """
    return await _take_case(request, service, case)


@router.post("", status_code=201, openapi_extra=_NRRD)
async def post_case(request: Request, service: Service) -> CaseView:
    """Send a scan, and be told its address. The body is that of `PUT`."""
    return await _take_case(request, service, None)


@router.delete("/{case}", status_code=204)
def delete_case(case: CaseAddress, service: Service, everything: bool = False) -> None:
    """Delete a scan and all results of it; with `everything` what was painted and adapted, too."""
    service.delete_case(case, everything)


@router.put("/{case}/annotation", status_code=201, openapi_extra=_NRRD)
async def put_annotation(case: CaseAddress, request: Request, service: Service) -> AnnotationView:
    """Send what was painted, or other labels on the grid of the case.

    The body is a NRRD file of whole numbers: 0 background, 1 and up for classes, 255 where nothing
    is said. Confirmed slices stand in the header, as `ImbalanceSeg_ConfirmedSlices`. Every version
    is kept under an address of its own until it is deleted.
    """
    await run_in_threadpool(service.library.case, case)

    async with _received(request, service, as_sent=True) as upload:
        annotation = await run_in_threadpool(service.library.keep_annotation, case, upload)
    return AnnotationView.model_validate(annotation)


@router.get("/{case}/annotations")
def all_annotations(case: CaseAddress, service: Service) -> list[AnnotationView]:
    """Everything that was painted on a case, the latest first; also when its voxels are gone."""
    return [AnnotationView.model_validate(one) for one in service.store.annotations(case)]


@router.get("/{case}/annotations/{annotation}", response_class=Response)
def get_annotation(case: CaseAddress, annotation: Address, service: Service) -> Response:
    """What was painted, as NRRD."""
    found = service.library.annotation(case, annotation)
    content = service.store.annotation_file(case, found.id).read_bytes()
    return Response(content, media_type="application/octet-stream")


@router.delete("/{case}/annotations/{annotation}", status_code=204)
def delete_annotation(case: CaseAddress, annotation: Address, service: Service) -> None:
    """Delete what was painted."""
    service.library.annotation(case, annotation)
    service.store.drop_annotation(case, annotation)


@router.put("/{case}/dicom/{number}", status_code=204, openapi_extra=_NRRD)
async def put_dicom(
    case: CaseAddress,
    number: Annotated[int, Path(ge=0, le=99_999)],
    request: Request,
    service: Service,
) -> None:
    """Send one file of the DICOM series that the case came from.

    A DICOM Segmentation quotes its headers, so the file may end before its Pixel Data. It is kept
    with the case and goes with it.
    """
    limit = service.limits.dicom_file_bytes
    with ExitStack() as stack:
        stream = await run_in_threadpool(
            stack.enter_context, service.library.receive_dicom(case, number)
        )
        size = 0
        async for piece in in_time(request.stream()):
            size += len(piece)
            if size > limit:
                raise InputError(
                    "upload-too-large",
                    f"A DICOM file has at most {limit / GIB:.3g} GiB here.",
                    "Leave out the Pixel Data, which is not needed.",
                )
            await run_in_threadpool(stream.write, piece)


async def _take_case(request: Request, service: EngineService, expected: str | None) -> CaseView:
    async with _received(request, service) as upload:
        case = await run_in_threadpool(service.library.keep_case, upload, expected)
    return CaseView.model_validate(case)


@asynccontextmanager
async def _received(
    request: Request, service: EngineService, as_sent: bool = False
) -> AsyncIterator[VolumeUpload]:
    """A volume that has arrived piece by piece, in room that was promised to it."""
    with ExitStack() as stack:
        upload = stack.enter_context(service.library.receive(as_sent))
        promised = False
        async with receiving(request):
            async for piece in pieces(request):
                await run_in_threadpool(upload.feed, piece)
                if upload.header is not None and not promised:
                    promised = True
                    size = upload.header.channel_bytes * upload.header.channels
                    room = service.library.room_for(size)
                    await run_in_threadpool(stack.enter_context, room)
            yield upload
