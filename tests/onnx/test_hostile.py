"""Files that lie: each is refused with what is wrong with it, and the server goes on."""

import pytest
from onnx import TensorProto, helper, numpy_helper
import numpy as np

ML = "ai.onnx.ml"


def model(nodes, outputs=("y",), initializers=(), inputs=("x",)):
    def port(name, element=TensorProto.FLOAT):
        return helper.make_tensor_value_info(name, element, ["n", 2])

    graph = helper.make_graph(nodes, "g", [port(i) for i in inputs], [port(o) for o in outputs], list(initializers))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def ml(operator, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(operator, list(inputs), list(outputs), name="n", domain=ML, **attributes)


TREE = dict(
    nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[1, 0, 0], nodes_values=[0.5, 0.0, 0.0],
    nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
    target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 2.0], n_targets=1,
)


def tree(**changes):
    return model([ml("TreeEnsembleRegressor", **(TREE | changes))])


BRANCHES = ["BRANCH_LEQ"] * 3
LYING = {
    "a tree that leads into itself": (tree(nodes_truenodeids=[0, 0, 0]), "`n` (TreeEnsembleRegressor)"),
    "a tree without a first node": (
        tree(nodes_modes=BRANCHES, nodes_truenodeids=[1, 2, 0], nodes_falsenodeids=[1, 2, 0]), "leads into itself"),
    "a shared child": (tree(nodes_truenodeids=[2, 0, 0]), "`n` (TreeEnsembleRegressor)"),
    "a child that is not there": (tree(nodes_truenodeids=[7, 0, 0]), "`nodes_truenodeids`: tree 0 has no node 7"),
    "a negative child": (tree(nodes_falsenodeids=[-1, 0, 0]), "`nodes_falsenodeids`"),
    "a negative feature": (tree(nodes_featureids=[-4, 0, 0]), "`nodes_featureids`"),
    "lists of different lengths": (tree(nodes_values=[0.5]), "`nodes_values` has 1 entries for 3 nodes"),
    "weights without a leaf": (tree(target_nodeids=[1, 9]), "tree 0 has no node 9"),
    "a target too many": (tree(target_ids=[0, 5]), "target 5 of 1"),
    "a billion targets": (tree(n_targets=1_000_000_000), "`n_targets`"),
    "the same node twice": (tree(nodes_nodeids=[0, 1, 1]), "node 1 twice"),
    "an unknown comparison": (tree(nodes_modes=["BRANCH_ODD", "LEAF", "LEAF"]), "`BRANCH_ODD`"),
    "an unknown attribute": (tree(colour=1), "attribute `colour` is not supported"),
    "no nodes": (model([ml("TreeEnsembleRegressor", n_targets=1)]), "0 nodes"),
    "coefficients that do not divide": (
        model([ml("LinearRegressor", coefficients=[1.0, 2.0, 3.0], intercepts=[0.0, 0.0], targets=2)]),
        "`coefficients` has 3 entries for 2 targets"),
    "scales that disagree": (model([ml("Scaler", offset=[0.0], scale=[1.0, 2.0])]), "`offset`"),
    "an unknown operator": (model([ml("Prophecy")]), "Prophecy (ai.onnx.ml)"),
    "a value of itself": (model([ml("Scaler", inputs=["y"], offset=[0.0], scale=[1.0])]), "before it is computed"),
    "a value from nowhere": (model([ml("Scaler", inputs=["z"], offset=[0.0], scale=[1.0])]), "`z`"),
    "an output from nowhere": (model([ml("Scaler", outputs=["w"], offset=[0.0], scale=[1.0])]), "`y`"),
    "an impossible constant": (
        model([ml("Scaler", offset=[0.0], scale=[1.0])],
              initializers=[TensorProto(name="c", data_type=1, dims=[1 << 40, 1 << 40])]), "`c`"),
    "an expression beyond measure": (
        model([ml("Scaler", offset=[0.0], scale=[1.0]),
               helper.make_node("Tokenizer", ["y"], ["t"], domain="com.microsoft", mark=0, mincharnum=1,
                                pad_value="#", tokenexp="((a{1000}){1000}){1000}")]), "`tokenexp`"),
}


@pytest.mark.parametrize("what", LYING)
def test_lying_models(server, tmp_path, what):
    made, words = LYING[what]
    file = tmp_path / "model.onnx"
    file.write_bytes(made.SerializeToString())
    assert words in server.refusal("lying", file)


def test_damaged_and_cut(server, tmp_path):
    whole = tree().SerializeToString()
    for length in [1, 20, len(whole) // 2, len(whole) - 3]:
        file = tmp_path / "model.onnx"
        file.write_bytes(whole[:length])
        assert "not a readable ONNX model" in server.refusal("cut", file)


def test_weights_elsewhere(server, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 8)
    inside = tmp_path / "artifact"
    inside.mkdir()
    for nodes in [
        [ml("Scaler", offset=[0.0], scale=[1.0])],
        [helper.make_node("Add", ["x", "w"], ["y"])],
    ]:
        weights = numpy_helper.from_array(np.zeros(2, dtype=np.float32), "w")
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="../secret")
        (inside / "model.onnx").write_bytes(model(nodes, initializers=[weights]).SerializeToString())
        assert "`../secret`" in server.refusal("elsewhere", inside)


def test_rows_that_a_model_cannot_take(server, tmp_path):
    """What only a run shows is the client's to know, and nothing else breaks."""
    narrow = tree(nodes_featureids=[70, 0, 0])
    file = tmp_path / "model.onnx"
    file.write_bytes(narrow.SerializeToString())
    deployed = server.deploy("narrow", file)
    answer = deployed.ask([[1.0, 2.0]])
    assert 400 <= answer.status_code < 600 and "71 features" in answer.text, answer.text
    file.write_bytes(tree().SerializeToString())
    deployed = server.deploy("good", file)
    assert deployed.predict([[9.0, 0.5], [9.0, 0.6]]) == [[1.0], [2.0]]
    for wrong in [[[1.0]], [["a", "b"]], [None], [{"z": 1}], [[[1.0], [2.0]]]]:
        assert deployed.ask(wrong).status_code == 400
    assert deployed.predict([[9.0, 0.5]]) == [[1.0]]
