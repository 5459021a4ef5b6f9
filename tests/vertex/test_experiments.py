"""Experiments as Google's library keeps them: runs with parameters, metrics, curves, and what was used and made."""

import itertools

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Event, TimeSeriesData

from conftest import LOCATION, PARENT, PROJECT

STORE = f"{PARENT}/metadataStores/default"
names = (f"trial-{i}" for i in itertools.count())


@pytest.fixture
def experiment(aip, server, credentials):
    """The library set to an experiment of its own."""
    name = next(names)
    common = {"project": PROJECT, "location": LOCATION, "api_endpoint": server.url, "api_transport": "rest"}
    aip.init(experiment=name, credentials=credentials, staging_bucket="gs://staging", **common)
    return name


def test_runs_are_kept_and_compared(aip, experiment):
    for i, rate in enumerate([0.1, 0.01]):
        aip.start_run(f"run-{i}")
        aip.log_params({"rate": rate, "optimizer": "adam"})
        aip.log_metrics({"accuracy": 0.8 + i / 10})
        for loss in [3.0, 2.0, 1.0 - i]:
            aip.log_time_series_metrics({"loss": loss})
        aip.end_run()
    with aip.start_run("run-0", resume=True) as again:
        again.log_metrics({"recall": 0.5})
        assert again.get_params() == {"rate": 0.1, "optimizer": "adam"}
        frame = again.get_time_series_data_frame()
        assert frame["loss"].tolist() == [3.0, 2.0, 1.0] and frame["step"].tolist() == [1, 2, 3]
    table = aip.get_experiment_df(experiment).set_index("run_name").sort_index()
    assert table["param.rate"].tolist() == [0.1, 0.01] and table["state"].tolist() == ["COMPLETE"] * 2
    assert table["metric.accuracy"].tolist() == [0.8, 0.9] and table["metric.recall"]["run-0"] == 0.5
    assert table["time_series_metric.loss"].tolist() == [1.0, 0.0]
    assert sorted(run.name for run in aip.ExperimentRun.list(experiment=experiment)) == ["run-0", "run-1"]
    assert experiment in [found.name for found in aip.Experiment.list()]
    # Another experiment has none of these runs.
    assert len(aip.Experiment.get_or_create(next(names)).get_data_frame()) == 0
    aip.Experiment(experiment).delete(delete_backing_tensorboard_runs=True)
    assert aip.Experiment.get(experiment) is None and aip.ExperimentRun.get("run-0", experiment=aip.Experiment.create(next(names))) is None


def test_what_was_used_and_made(aip, experiment, gapic):
    run = aip.start_run("run")
    data = aip.Artifact.create(schema_title="system.Dataset", uri="gs://rows/train.csv", display_name="rows")
    model = aip.Artifact.create(schema_title="system.Model", uri="gs://staging/model")
    with aip.start_execution(schema_title="system.ContainerExecution", display_name="fit") as fit:
        fit.assign_input_artifacts([data])
        fit.assign_output_artifacts([model])
    with aip.start_execution(schema_title="system.ContainerExecution", display_name="judge") as judge:
        judge.assign_input_artifacts([model])
    assert [found.uri for found in fit.get_input_artifacts()] == ["gs://rows/train.csv"]
    assert [found.name for found in fit.get_output_artifacts()] == [model.name]
    # The board of the run's curves is one of them, too.
    assert {found.uri for found in run.get_artifacts()} >= {"gs://rows/train.csv", "gs://staging/model"}
    assert {found.display_name for found in run.get_executions()} == {"fit", "judge"}
    graph = run._metadata_node.query_lineage_subgraph()
    assert {found.uri for found in graph.artifacts} >= {"gs://rows/train.csv", "gs://staging/model"}
    assert {found.display_name for found in graph.executions} == {"fit", "judge"}
    events = {(event.artifact, event.execution, event.type_) for event in graph.events}
    used, made = Event.Type.INPUT, Event.Type.OUTPUT
    assert events == {
        (data.resource_name, fit.resource_name, used), (model.resource_name, fit.resource_name, made),
        (model.resource_name, judge.resource_name, used),
    }
    client = gapic("Metadata")
    hops = lambda hops, **more: client.query_artifact_lineage_subgraph({"artifact": data.resource_name, "max_hops": hops, **more})  # noqa: E731
    assert len(hops(1).executions) == 1 and len(hops(1).artifacts) == 1 and len(hops(2).artifacts) == 2
    everything = client.query_artifact_lineage_subgraph({"artifact": data.resource_name})
    assert len(everything.executions) == 2 and len(everything.events) == 3
    assert len(hops(9, filter='schema_title="system.Dataset"').executions) == 1
    # What is deleted is nowhere any more.
    client.delete_artifact(name=model.resource_name).result()
    assert [e.artifact for e in client.query_execution_inputs_and_outputs(execution=fit.resource_name).events] == [data.resource_name]
    aip.end_run()


def test_contexts_within_contexts(aip, gapic):
    client = gapic("Metadata")
    a, b, c = (client.create_context(parent=STORE, context={"display_name": x}, context_id=f"ctx-{x}").name for x in "abc")
    client.add_context_children(context=a, child_contexts=[b])
    client.add_context_children(context=b, child_contexts=[c, c])
    client.add_context_children(context=b, child_contexts=[c])
    assert list(client.get_context(name=c).parent_contexts) == [b]
    listed = client.list_contexts({"parent": STORE, "filter": f'parent_contexts:"{b}"'})
    assert [found.name for found in listed] == [c]
    for child, parent in [(a, c), (a, a)]:
        with pytest.raises(exceptions.BadRequest, match="cannot be a child"):
            client.add_context_children(context=parent, child_contexts=[child])
    # One that is not there leaves the other out, too.
    with pytest.raises(exceptions.NotFound):
        client.add_context_children(context=a, child_contexts=[c, f"{STORE}/contexts/none"])
    assert list(client.get_context(name=c).parent_contexts) == [b]
    client.remove_context_children(context=b, child_contexts=[c])
    assert not client.get_context(name=c).parent_contexts
    client.delete_context(name=a).result()
    assert not client.get_context(name=b).parent_contexts


def test_what_does_not_fit_is_refused(aip, gapic):
    client = gapic("Metadata")
    context = client.create_context(parent=STORE, context={}, context_id="strict").name
    execution = client.create_execution(parent=STORE, execution={}, execution_id="strict").name
    artifact = client.create_artifact(parent=STORE, artifact={}, artifact_id="strict").name
    elsewhere = artifact.replace(LOCATION, "europe-west4")
    for refused in [
        lambda: client.add_context_artifacts_and_executions(context=context, artifacts=[execution]),
        lambda: client.add_context_artifacts_and_executions(context=context, artifacts=[elsewhere]),
        lambda: client.add_execution_events(execution=execution, events=[{"artifact": artifact}]),
        lambda: client.query_artifact_lineage_subgraph({"artifact": artifact, "max_hops": -1}),
        lambda: client.query_artifact_lineage_subgraph({"artifact": artifact, "filter": "colour=red"}),
        lambda: client.list_artifacts({"parent": STORE, "filter": 'in_context("'}),
    ]:
        with pytest.raises(exceptions.BadRequest):
            refused()
    client.add_execution_events(execution=execution, events=[{"artifact": artifact, "type_": Event.Type.INPUT}])
    with pytest.raises(exceptions.BadRequest, match="as used and as made"):
        client.add_execution_events(execution=execution, events=[{"artifact": artifact, "type_": Event.Type.OUTPUT}])
    assert len(client.query_execution_inputs_and_outputs(execution=execution).events) == 1


def test_curves_have_limits(aip, gapic):
    client = gapic("Tensorboard")
    board = client.create_tensorboard(parent=PARENT, tensorboard={"display_name": "by hand"}).result().name
    trial = client.create_tensorboard_experiment(parent=board, tensorboard_experiment_id="trial").name
    run = client.create_tensorboard_run(parent=trial, tensorboard_run={"display_name": "run"}, tensorboard_run_id="run").name
    series = client.create_tensorboard_time_series(parent=run, tensorboard_time_series={"display_name": "loss", "value_type": "SCALAR"})
    identity = series.name.rsplit("/", 1)[1]

    def write(steps, kind="SCALAR", of=identity):
        values = [{"step": step, "scalar": {"value": step / 2}} for step in steps]
        data = TimeSeriesData(tensorboard_time_series_id=of, value_type=kind, values=values)
        client.write_tensorboard_run_data(tensorboard_run=run, time_series_data=[data])

    write(range(5000))
    write(range(5000, 10_000))
    with pytest.raises(exceptions.BadRequest, match="10000 points"):
        write([10_000])
    with pytest.raises(exceptions.NotFound):
        write([1], of="none")
    with pytest.raises(exceptions.MethodNotImplemented, match="TENSOR"):
        write([1], kind="TENSOR")
    read = client.read_tensorboard_time_series_data({"tensorboard_time_series": series.name, "max_data_points": 10})
    values = read.time_series_data.values
    assert len(values) == 10 and values[-1].step == 9999 and values[-1].scalar.value == 9999 / 2
    client.delete_tensorboard(name=board).result()
    with pytest.raises(exceptions.NotFound):
        client.get_tensorboard_time_series(name=series.name)
