"""From clips to predictions: decode ahead in threads, find and crop faces, predict in full batches.

Three stages run at the same time: threads decode photographs, one thread finds and crops faces in order, one feeds the
network. Batches are filled across clips. In memory are the pictures being decoded, the crops of a few batches, and the
numbers predicted for one clip; whoever needs the pictures again reads them again.
"""

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from sheap_jax.cropping import CropBox, crop_image
from sheap_jax.data.photographs import read_photograph
from sheap_jax.data.prepare.clips import Clip, PrepareError
from sheap_jax.data.prepare.video import ClipFrame, FrameReader
from sheap_jax.inference.batches import BUCKETS
from sheap_jax.inference.faces import FaceFinder, TrackedBox, Tracker
from sheap_jax.inference.head_geometry import turn_heads
from sheap_jax.inference.inputs import Failure
from sheap_jax.morphable import MorphableModel
from sheap_jax.types import HeadParams

T = TypeVar("T")
BATCH = BUCKETS[-1]
LOST_AFTER = 1.0  # seconds without a face after which a track of a video ends


class HeadPredictor(Protocol):
    """Head parameters of crops, float images in [0, 1], and the model that they are of."""

    @property
    def model(self) -> MorphableModel: ...

    def __call__(self, images: Float[np.ndarray, "n size size 3"], /) -> HeadParams: ...


class Footage(NamedTuple):
    """Times and size of a clip's frames, known once it has been read."""

    clip: Clip
    times: Float[np.ndarray, "frames+1"]  # seconds at which frames start, from the first one, and the last one ends
    height: int
    width: int

    @property
    def frames(self) -> int:
        return len(self.times) - 1

    @property
    def rate(self) -> float:
        """Frames per second on average; 0 for a photograph."""
        return 0.0 if self.clip.is_photograph else self.frames / float(self.times[-1])


class Prediction(NamedTuple):
    """Everything predicted of one clip: a row for each face, in the order of frames, then tracks. NumPy arrays."""

    footage: Footage
    frame: Int[np.ndarray, "n"]
    track: Int[np.ndarray, "n"]  # who it is; in a photograph, 0 is the largest face
    box: CropBox  # of the crops, pixels of the picture
    head: HeadParams

    @property
    def seconds(self) -> Float[np.ndarray, "n"]:
        """The time of each row's frame."""
        return self.footage.times[self.frame]


class FaceCrop(NamedTuple):
    frame: int
    face: TrackedBox
    pixels: UInt8[np.ndarray, "size size 3"]


class PredictedFace(NamedTuple):
    crop: FaceCrop
    head: HeadParams


Item = FaceCrop | Footage | Failure  # a clip's crops, then its footage or a failure, which voids them


def predict_clips(
    predictor: HeadPredictor,
    clips: Sequence[Clip],
    finder: FaceFinder,
    *,
    size: int,
    workers: int = 2,
    progress: Callable[[int], object] = lambda faces: None,
) -> Iterator[Prediction | Failure]:
    """One result for every clip, in order.

    Args:
      size: pixels of the crops.
      workers: threads that decode photographs.
      progress: told the number of faces of each batch.
    """
    crops = ahead(face_crops(clips, finder, size=size, workers=workers), depth=2 * BATCH)
    rows: list[PredictedFace] = []
    for item in _predicted(predictor, crops, progress):
        if isinstance(item, PredictedFace):
            rows.append(item)
            continue
        yield item if isinstance(item, Failure) else _in_the_picture(_join(item, rows), predictor)
        rows = []


def face_crops(clips: Sequence[Clip], finder: FaceFinder, *, size: int, workers: int) -> Generator[Item]:
    """Crops of all faces of all clips; every clip ends with its Footage or a Failure."""
    for clip, photograph in _decode_ahead(clips, workers):
        try:
            yield from _crops_of(clip, photograph, finder, size)
        except (PrepareError, OSError, ValueError) as error:
            yield Failure(str(clip.path), str(error).removeprefix(f"{clip.path} "))
        except Exception as error:  # one odd file among thousands must not end the run
            yield Failure(str(clip.path), f"unexpected {type(error).__name__}: {error}")


def _decode_ahead(clips: Sequence[Clip], workers: int) -> Iterator[tuple[Clip, Future | None]]:
    """Clips in order. A pool decodes photographs a few clips ahead; frames of videos are read one by one later."""
    with ThreadPoolExecutor(workers) as pool:
        started = ((clip, pool.submit(read_photograph, clip.path) if clip.is_photograph else None) for clip in clips)
        waiting = deque(itertools.islice(started, 2 * workers))
        while waiting:
            yield waiting.popleft()
            waiting.extend(itertools.islice(started, 1))


def _crops_of(clip: Clip, photograph: Future | None, finder: FaceFinder, size: int) -> Iterator[Item]:
    finder.start(clip)
    reader = FrameReader(clip)
    frames = reader if photograph is None else [ClipFrame(0, 0.0, photograph.result())]
    tracker, faces, height, width = Tracker(patience=LOST_AFTER), 0, 0, 0
    for number, seconds, image in frames:
        height, width = image.shape[:2]
        for face in tracker.follow(number, seconds, finder.find(number, image)):
            faces += 1
            yield FaceCrop(number, face, crop_image(image, face.box, size))
    times = reader.times if photograph is None else np.array([0.0, 1.0 / clip.rate])
    footage = Footage(clip, times, height, width)
    finder.finish(footage.frames)
    if not faces:
        raise PrepareError("no face found" if clip.is_photograph else f"no face found in {footage.frames} frames")
    yield footage


def _predicted(
    predictor: Callable, items: Iterable[Item], progress: Callable[[int], object]
) -> Iterator[PredictedFace | Footage | Failure]:
    """The items, with the parameters of every crop. The network works on one batch while the next is gathered."""
    with ThreadPoolExecutor(1) as device:
        before: tuple[list[Item], Future[list[HeadParams]]] | None = None
        for batch in _batches(items):
            running = device.submit(_predict, predictor, [item.pixels for item in batch if isinstance(item, FaceCrop)])
            if before is not None:
                yield from _with_heads(before[0], before[1].result(), progress)
            before = batch, running
        if before is not None:
            yield from _with_heads(before[0], before[1].result(), progress)


def _with_heads(
    items: list[Item], heads: list[HeadParams], progress: Callable[[int], object]
) -> Iterator[PredictedFace | Footage | Failure]:
    progress(len(heads))
    rows = iter(heads)
    return (PredictedFace(item, next(rows)) if isinstance(item, FaceCrop) else item for item in items)


def _predict(predictor: Callable, pixels: list[np.ndarray]) -> list[HeadParams]:
    """The parameters of each crop."""
    if not pixels:
        return []
    head = predictor(np.stack(pixels).astype(np.float32) / 255.0)
    return [HeadParams(*(array[row] for array in head)) for row in range(len(pixels))]


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Items in order, in lists with BATCH crops each, the last with fewer."""
    batch, crops = [], 0
    for item in items:
        batch.append(item)
        crops += isinstance(item, FaceCrop)
        if crops == BATCH:
            yield batch
            batch, crops = [], 0
    yield batch


def _join(footage: Footage, rows: list[PredictedFace]) -> Prediction:
    boxes = [row.crop.face.box for row in rows]
    return Prediction(
        footage,
        frame=np.array([row.crop.frame for row in rows]),
        track=np.array([row.crop.face.track for row in rows]),
        box=CropBox(*(np.array([getattr(box, name) for box in boxes]) for name in CropBox._fields)),
        head=jax.tree.map(lambda *heads: np.stack(heads), *(row.head for row in rows)),
    )


def _in_the_picture(prediction: Prediction, predictor: HeadPredictor) -> Prediction:
    """The heads as they lie in the picture. Heads of turned crops are turned back."""
    if not np.any(prediction.box.turns):
        return prediction
    return prediction._replace(head=turn_heads(predictor.model, prediction.head, -np.asarray(prediction.box.turns)))


def ahead(items: Generator[T], *, depth: int) -> Iterator[T]:
    """The items, made by a thread that is up to `depth` of them ahead. An error of the thread is raised here."""
    made: queue.Queue = queue.Queue(depth)
    end, stopped = object(), threading.Event()

    def put(item: object) -> None:
        while not stopped.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
            put(end)
        except BaseException as error:
            put(error)
        finally:
            items.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
