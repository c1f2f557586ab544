"""The data and the task of a run, by the strategy's family."""

from flax import nnx

from samjax.data.loading.pipeline import MapDataset
from samjax.training.precompute import check_room, compute_embeddings
from samjax.training.session import Session
from samjax.training.stop import StopRequest
from samjax.training.tasks.generated import generated_data, generated_task, prepare_heads
from samjax.training.tasks.pretrain_scores import picture_data, pretraining_task
from samjax.training.tasks.segmentation import fine_tuning_task, window_data
from samjax.training.tasks.task import Task
from samjax.training.tasks.unet import unet_task


def check(session: Session) -> None:
    """Raises a `UserError` if a run could not be prepared; computes nothing."""
    if session.options.cache_embeddings is not None:
        check_room(session)


def prepare(session: Session, stop: StopRequest) -> None:
    """Computes the embeddings or generated heads of a run once, before its first step.

    Raises:
        UserError: they do not fit on the disk.
        Stopped: a signal asked for the end; finished embeddings are kept.
    """
    if session.strategy.generated:
        prepare_heads(session, stop)
    if session.options.cache_embeddings is not None:
        compute_embeddings(session, stop)


def make_data(session: Session) -> MapDataset:
    """The training batches of this host."""
    if session.strategy.generated:
        return generated_data(session)
    return picture_data(session) if session.strategy.family == "pictures" else window_data(session)


def make_task(session: Session, graphdef: nnx.GraphDef) -> Task:
    """Loss and scores of a run's model."""
    if session.strategy.generated:
        return generated_task(session, graphdef)
    makers = {"sam": fine_tuning_task, "pictures": pretraining_task, "unet": unet_task}
    return makers[session.strategy.family](session, graphdef)
