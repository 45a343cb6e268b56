"""Recommendations of a finished run, from the command to the file, with scores that are worked out by hand."""

import csv
import hashlib
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import recommend
from frugal.config.base import plain
from frugal.config.recommendation import RecommendationRun
from frugal.config.study import dump_yaml
from frugal.errors import FrugalError
from frugal.files import write_json
from frugal.recsys.adapters import add_adapter, save_trained
from frugal.recsys.catalogue import Catalogue, write_catalogue
from frugal.recsys.modeling import Recommender, load_recommender
from frugal.recsys.recommending import add_mean_user, top

#: Titles of the items 10 to 16; that of the last is its id, as of an item that no file describes.
TITLES = ["Ape", "Bee", "Cat", "Dog", "Elk", "Fox", "16"]
ITEMS = [str(10 + number) for number in range(7)]
USERS = ["ann", "bob", "carl"]
#: Rows (user, item, rating, time) of the data: Ann has 10 11 12, Bob 13 (low) 14, Carl 15.
ROWS = [(0, 0, 5, 1), (0, 1, 5, 2), (0, 2, 4, 3), (1, 3, 1, 1), (1, 4, 5, 2), (2, 5, 5, 1)]


class Finished:
    """A project with a finished run, whose model has random weights."""

    def __init__(self, root, monkeypatch, capsys):
        self.root, self.monkeypatch, self.capsys = root, monkeypatch, capsys
        self.folder, self.prepared = root / "results/readers/recommender/sasrec", root / "data/prepared/readers"

    def add(self, model, variant="sasrec", history="exclude", users=USERS, **sections):
        folder = self.folder.with_name(variant)
        run = RecommendationRun.model_validate({"dataset": "readers", "seeds": [4, 5], **sections})
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(dump_yaml(plain(run)))
        write_json(folder / "metrics.json", {"history": history})
        save_trained(model, run.adapter, folder / "seeds/4/model")
        write_catalogue(
            folder / "seeds/4/model", Catalogue(ITEMS, hashlib.sha256("\n".join(users).encode()).hexdigest())
        )
        return folder

    def prepare(self):
        self.prepared.mkdir(parents=True)
        user, item, rating, time = zip(*ROWS, strict=True)
        columns = {"user": pa.array(user, pa.int32()), "item": pa.array(item, pa.int32())}
        columns |= {"rating": pa.array(rating, pa.float32()), "timestamp": pa.array(time, pa.int64())}
        pq.write_table(pa.table(columns), self.prepared / "interactions.parquet")
        numbers = pa.array(range(7), pa.int32())
        items = {"item": numbers, "title": TITLES, "attributes": pa.array([[]] * 7, pa.list_(pa.string()))}
        pq.write_table(pa.table(items | {"original_id": ITEMS}), self.prepared / "items.parquet")
        users = {"user": pa.array(range(3), pa.int32()), "original_id": USERS}
        pq.write_table(pa.table(users), self.prepared / "users.parquet")
        write_json(self.prepared / "summary.json", {"k_core": None})

    def write(self, *records):
        path = self.root / "histories.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    def ask(self, *options, run=None):
        """The output's JSON lines, and what was printed beside it."""
        command = ["recommend", "--run", run or self.folder, "--data", self.root / "data", *options]
        self.monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        recommend.main()
        printed = self.capsys.readouterr()
        return [json.loads(line) for line in printed.out.splitlines()], printed.err

    def histories(self, *records, options=()):
        return self.ask("--histories", self.write(*records), *options)


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    # Other tests of this process want the packages.
    monkeypatch.setattr(recommend, "hide_unused", lambda method: None)
    made = Finished(tmp_path, monkeypatch, capsys)
    made.prepare()
    return made


@pytest.fixture
def finished(project, make_model, monkeypatch):
    """A SASRec whose scores are 0 1 2 3 3 5 6 of the items 10 to 16, whatever the history; `seen` are the histories."""
    project.add(make_model("sasrec"))
    project.seen = []

    def score(self, users, histories):
        project.seen += [history.tolist() for history in histories]
        return torch.tensor([[0.0, 1.0, 2.0, 3.0, 3.0, 5.0, 6.0]]).repeat(len(histories), 1)

    monkeypatch.setattr(Recommender, "score", score)
    return project


def ids(answer):
    return [item["item"] for item in answer["items"]]


def test_the_best_items_without_the_history(finished):
    (first, second), printed = finished.histories(
        {"user": "x", "history": [16, "11"]}, {"history": ["10"]}, options=["-k", "4"]
    )
    assert first == {
        "record": 1,
        "user": "x",
        "items": [
            {"item": "15", "title": "Fox", "score": 5.0},
            {"item": "13", "title": "Dog", "score": 3.0},
            {"item": "14", "title": "Elk", "score": 3.0},
            {"item": "12", "title": "Cat", "score": 2.0},
        ],
        "left_out": {"items_of_the_history": 2},
    }
    assert "user" not in second
    assert second["items"][0] == {"item": "16", "score": 6.0}  # without a title
    assert finished.seen == [[6, 1], [0]]
    assert printed == "recommendations for 2 of 2 records\n"


def test_the_history_is_kept_as_the_run_or_the_option_says(finished, make_model):
    record = {"history": ["16"]}
    assert ids(finished.histories(record)[0][0])[0] == "15"
    assert ids(finished.histories(record, options=["--keep-history"])[0][0])[0] == "16"
    write_json(finished.folder / "metrics.json", {"history": "keep"})
    assert ids(finished.histories(record)[0][0])[0] == "16"
    assert ids(finished.histories(record, options=["--exclude-history"])[0][0])[0] == "15"
    (finished.folder / "metrics.json").unlink()
    with pytest.raises(FrugalError, match=r"metrics\.json: does not say whether items of the history are ranked"):
        finished.histories(record)
    # The setting itself needs no evaluation.
    folder = finished.add(make_model("sasrec"), "keeps", evaluation={"history": "keep"})
    (folder / "metrics.json").unlink()
    assert ids(finished.ask("--histories", finished.write(record), run=folder)[0][0])[0] == "16"


def test_what_is_left_out_is_reported_of_each_record_and_counted(finished):
    answers, printed = finished.histories(
        {"history": ["99", "10", "98"]},
        {"history": []},
        {"user": "z", "history": ["97"]},
        {"user": "dora"},
        options=["-k", "5"],
    )
    assert answers[0]["left_out"] == {"unseen_items": ["99", "98"], "items_of_the_history": 1}
    assert [answer["items"] for answer in answers[1:]] == [[], [], []]
    assert [answer["left_out"] for answer in answers[1:]] == [
        {"reason": "the history is empty"},
        {"reason": "no item of the history is in the model's catalogue", "unseen_items": ["97"]},
        {"reason": "the user is not in the training data, and no history was given"},
    ]
    assert printed.splitlines() == [
        "recommendations for 1 of 4 records",
        "none for 1: the history is empty",
        "none for 1: no item of the history is in the model's catalogue",
        "none for 1: the user is not in the training data, and no history was given",
        "unseen items: 3 in 2 histories are not in the model's catalogue and were not read: '99', '98', '97'",
        "unknown users: 'dora'",
    ]


def test_users_of_the_training_data(finished, make_model):
    answers, _ = finished.ask("--users", "bob", "ann", "eve")
    assert finished.seen == [[3, 4], [0, 1, 2]]
    assert [answer["user"] for answer in answers] == ["bob", "ann", "eve"]
    assert answers[2]["items"] == []
    # Of a run that uses ratings of 2 and more, Bob has one item.
    rated = finished.add(make_model("sasrec"), "rated", data={"min_rating": 2})
    finished.seen.clear()
    finished.ask("--users", "bob", run=rated)
    assert finished.seen == [[4]]
    (finished.prepared / "users.parquet").unlink()
    with pytest.raises(FrugalError, match=r"users\.parquet: not there; make it with: snakemake --cores 1 .*users"):
        finished.ask("--users", "bob")


def test_allowed_and_denied_items(finished):
    allow, deny = finished.root / "allow.txt", finished.root / "deny.txt"
    allow.write_text("12\n15\n\n16\n77\n")
    deny.write_text("15\n")
    (answer,), printed = finished.histories({"history": ["10"]}, options=["--allow", allow, "--deny", deny])
    assert ids(answer) == ["16", "12"]
    assert "allowed or denied, and not in the catalogue: 1 ids: '77'" in printed
    assert "--top 10: there are 2 items to choose from, and no more are listed" in printed
    (answer,), _ = finished.histories({"history": ["12", "16"]}, options=["--allow", allow, "--deny", deny])
    assert answer["left_out"] == {"reason": "no item is left to recommend", "items_of_the_history": 2}
    deny.write_text("12\n15\n16\n")
    with pytest.raises(FrugalError, match="allowed and denied items leave nothing to recommend"):
        finished.histories({"history": ["10"]}, options=["--allow", allow, "--deny", deny])
    allow.write_text("\n")
    with pytest.raises(FrugalError, match=r"allow\.txt: holds no ids; put one in each line"):
        finished.histories({"history": ["10"]}, options=["--allow", allow])


def test_more_than_the_catalogue_has(finished):
    (answer,), printed = finished.histories({"history": ["10"]}, options=["-k", "500"])
    assert ids(answer) == ["16", "15", "13", "14", "12", "11"]
    assert "--top 500: there are 7 items to choose from, and no more are listed" in printed
    with pytest.raises(SystemExit):
        finished.histories({"history": ["10"]}, options=["-k", "0"])


def test_csv_and_a_malformed_line_that_leaves_the_old_file(finished):
    output = finished.root / "top.csv"
    finished.histories({"user": "x", "history": ["99", "16"]}, {"history": []}, options=["-k", "2", "--output", output])
    rows = list(csv.reader(output.read_text().splitlines()))
    assert rows == [
        ["record", "user", "rank", "item", "title", "score", "left_out"],
        ["1", "x", "1", "15", "Fox", "5.0", '{"unseen_items": ["99"], "items_of_the_history": 1}'],
        ["1", "x", "2", "13", "Dog", "3.0", ""],
        ["2", "", "", "", "", "", '{"reason": "the history is empty"}'],
    ]
    before = output.read_bytes()
    path = finished.write(*[{"history": ["10"]}] * 600)
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(FrugalError, match=r"histories\.jsonl, line 601: not JSON"):
        finished.ask("--histories", path, "--output", output)
    assert output.read_bytes() == before
    assert sorted(file.name for file in finished.root.iterdir()) == ["data", "histories.jsonl", "results", "top.csv"]
    with pytest.raises(FrugalError, match=r"top\.xlsx: the output is JSON lines or CSV"):
        finished.histories({"history": ["10"]}, options=["--output", finished.root / "top.xlsx"])


@pytest.mark.parametrize("kind", ["sasrec", "bert4rec", "ssept"])
def test_each_model_recommends_what_it_scores_highest(project, make_model, kind):
    project.add(make_model(kind))
    model = load_recommender(project.folder / "seeds/4/model").eval()
    histories = [[0, 1, 2, 3], [4], [2, 5, 1, 0, 3, 6, 2, 4]]
    records = [{"user": user, "history": [ITEMS[i] for i in own]} for user, own in zip(USERS, histories, strict=True)]
    answers, _ = project.histories(*records, options=["--keep-history", "--batch-size", "2"])
    scores = model.score(np.arange(3), [np.array(own) for own in histories]).numpy()
    for answer, own in zip(answers, scores, strict=True):
        assert ids(answer) == [ITEMS[i] for i in np.argsort(-own)]
        assert [item["score"] for item in answer["items"]] == pytest.approx(sorted(own, reverse=True), abs=1e-5)
    # Of eight items the newest six are read, with BERT4Rec's mask the newest five.
    assert answers[2]["left_out"] == {"older_items": 3 if kind == "bert4rec" else 2}
    assert "left_out" not in answers[1]


def test_an_adapter_is_loaded_with_the_model_below_it(project, make_model):
    project.add(make_model("sasrec"))
    settings = {"adapter": {"method": "ilora", "r": 2, "experts": 2}, "warm_start": {"variant": "sasrec"}}
    adapted = add_adapter(make_model("sasrec"), RecommendationRun(dataset="a", **settings).adapter, 1)
    folder = project.add(adapted, "adapted", **settings)
    (answer,), _ = project.ask("--histories", project.write({"history": ["10"]}), run=folder)
    assert len(answer["items"]) == 6


def test_a_user_that_sse_pt_does_not_know_is_scored_as_the_mean_user(project, make_model):
    model = make_model("ssept")
    project.add(model)
    record = {"history": ["10", "11"]}
    answers, printed = project.histories({"user": "eve", **record}, record, {"user": "bob", **record})
    with torch.no_grad():
        mean = model.user_embedding.weight.mean(0)
        model.user_embedding.weight[0] = mean
    expected = model.score(np.array([0]), [np.array([0, 1])]).numpy()[0, 2:]
    for answer in answers[:2]:
        assert answer["left_out"] == {"items_of_the_history": 2, "user_embedding": "mean of all users"}
        assert [item["score"] for item in answer["items"]] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    assert "user_embedding" not in answers[2]["left_out"]
    assert answers[2]["items"] != answers[0]["items"]
    assert "users without an embedding: 2, scored with the mean of all users' embeddings\n" in printed
    assert "unknown users: 'eve'\n" in printed


def test_the_mean_user_is_of_those_that_were_trained(make_model):
    model = make_model("ssept")
    with torch.no_grad():
        model.user_embedding.weight.copy_(torch.tensor([[1.0], [5.0], [3.0]]).expand(3, 4))
    assert add_mean_user(model, np.array([True, False, True])) == 3
    assert model.user_embedding.weight[3].tolist() == [2.0] * 4


def test_users_in_another_order_than_their_embeddings_are_refused(project, make_model):
    project.add(make_model("ssept"), users=["bob", "ann", "carl"])
    with pytest.raises(FrugalError, match=r"users\.parquet: lists other users than the model was made with"):
        project.ask("--users", "ann")
    # Without a user nothing is looked up.
    assert len(project.histories({"history": ["10"]})[0]) == 1


@pytest.mark.parametrize("kind", ["sasrec", "bert4rec"])
def test_neighbours_by_cosine(project, make_model, kind):
    model = make_model(kind)
    with torch.no_grad():
        # In a plane, at 0, 10, 30, 60, 100, 150 and 210 degrees, with lengths 1 to 7; BERT4Rec's mask is none of them.
        angles = torch.deg2rad(torch.tensor([0.0, 10, 30, 60, 100, 150, 210]))
        model.item_embedding.weight.zero_()
        plane = torch.stack((angles.cos(), angles.sin()), 1)
        model.item_embedding.weight[:7, :2] = plane * torch.arange(1.0, 8)[:, None]
        model.item_embedding.weight[7:] = 1
    project.add(model)
    (first, second), printed = project.ask("--neighbours", "11", "16", "-k", "2")
    assert (first["item"], first["title"]) == ("11", "Bee")
    assert [one["item"] for one in first["neighbours"]] == ["10", "12"]
    cosines = [one["cosine"] for one in first["neighbours"]]
    assert cosines == pytest.approx([0.984808, 0.939693], abs=2e-6)  # cos 10, cos 20
    assert [one["item"] for one in second["neighbours"]] == ["15", "14"]
    assert printed == ""
    everything, _ = project.ask("--neighbours", "-k", "500")
    assert [len(one["neighbours"]) for one in everything] == [6] * 7
    output = project.root / "near.csv"
    project.ask("--neighbours", "16", "-k", "1", "--output", output)
    assert output.read_text().splitlines() == [
        "item,title,rank,neighbour,neighbour_title,cosine",
        f"16,,1,15,Fox,{second['neighbours'][0]['cosine']}",
    ]
    with pytest.raises(FrugalError, match="not in the model's catalogue: '1000'; give ids as the data's files have"):
        project.ask("--neighbours", "1000")


def test_the_page_shows_commands_that_work(project, make_model, monkeypatch, capsys):
    page = Path("docs/how-to/recommend.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    project.add(make_model("sasrec"))
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(sys, "path", sys.path[:])
    records, example = (block for language, block in blocks if language == "json")
    Path("histories.jsonl").write_text(records)
    Path("my-ratings.csv").write_text("reader,book,stars,timestamp\n0,10,4,2\n0,11,4,1\n1,16,5,3\n")
    commands = "".join(block for language, block in blocks if not language).replace("\\\n", "").splitlines()
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "python"
        monkeypatch.setattr(sys, "argv", arguments)
        recommend.main()
    assert len(commands) == 5
    top = [json.loads(line) for line in Path("top.jsonl").read_text().splitlines()]
    assert [len(answer["items"]) for answer in top] == [4, 5, 0]  # of seven items, without the history
    assert top[0].keys() == json.loads(example).keys()
    assert top[0]["left_out"] == json.loads(example)["left_out"]
    assert len(Path("top.csv").read_text().splitlines()) == 1 + 5 + 6
    assert len(Path("neighbours.csv").read_text().splitlines()) == 1 + 7 * 6
    capsys.readouterr()
    (code,) = (block for language, block in blocks if language == "python")
    exec(code, {})
    assert capsys.readouterr().out.startswith("['1")


def test_what_is_no_finished_recommender(finished, make_run):
    record = finished.write({"history": ["10"]})
    with pytest.raises(FrugalError, match=r"seeds/5/model: is not there: the run is not trained yet"):
        finished.ask("--histories", record, "--seed", "5")
    with pytest.raises(FrugalError, match="has no seed 9; its seeds are 4, 5"):
        finished.ask("--histories", record, "--seed", "9")
    with pytest.raises(FrugalError, match=r"is no trained run: it has no config\.yaml"):
        finished.ask("--histories", record, run=finished.folder.with_name("baseline_markov"))
    other = finished.folder.with_name("tuned")
    other.mkdir()
    (other / "config.yaml").write_text(dump_yaml(plain(make_run())))
    with pytest.raises(FrugalError, match=r"the kind 'preference', not 'recommendation'; rank .* by rank_candidates"):
        finished.ask("--histories", record, run=other)
    timed = RecommendationRun.model_validate(
        {"dataset": "readers", "data": {"times": True}, "model": {"layers": "hstu", "positions": "time"}}
    )
    (other / "config.yaml").write_text(dump_yaml(plain(timed)))
    with pytest.raises(FrugalError, match=r"tuned: its model reads the times of items \(model.positions 'time'\)"):
        finished.ask("--histories", record, run=other)
    (finished.folder / "seeds/4/model/catalogue.json").unlink()
    with pytest.raises(FrugalError, match=r"has no catalogue\.json with the ids of its 7 items; train the run again"):
        finished.ask("--histories", record)


def test_options_that_would_be_ignored_or_replace_what_is_read(finished, monkeypatch, capsys):
    record = finished.write({"history": ["10"]})
    monkeypatch.chdir(finished.root)
    for options, words in {
        ("--histories", record, "--output", "./histories.jsonl"): "would replace the file of --histories",
        ("--histories", record, "--deny", "list.jsonl", "--output", "list.jsonl"): "would replace the file of --deny",
        ("--neighbours", "--deny", "list.jsonl"): "--neighbours are of the whole catalogue",
        ("--users", "ann", "--fields", "user=who"): "--fields names columns of --histories",
    }.items():
        with pytest.raises(SystemExit):
            finished.ask(*options)
        assert words in capsys.readouterr().err


def test_scores_that_are_no_numbers(finished, monkeypatch):
    monkeypatch.setattr(Recommender, "score", lambda *_: torch.full((1, 7), torch.nan))
    with pytest.raises(FrugalError, match="scores contain NaN"):
        finished.histories({"history": ["10"]})


def test_top_keeps_the_order_of_equal_scores():
    scores = np.array([1, 3, -np.inf, 3, 3, 0], np.float32)
    assert top(scores, 2).tolist() == [1, 3]
    assert top(scores, 4).tolist() == [1, 3, 4, 0]
    assert top(scores, 9).tolist() == [1, 3, 4, 0, 5]
