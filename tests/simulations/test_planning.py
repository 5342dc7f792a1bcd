import json

import pytest

from hansa.cli import main

GROCERS = ["plan", "--shops", "111", "--customers", "20", "--items", "3000", "--epsilon", "8"]


def test_a_hopeless_plan_is_an_answer(capsys):
    assert main([*GROCERS, "--dp", "local"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "THIS CANNOT WORK. Every shop adds its own noise" in text
    assert "--dp distributed" in text
    assert "more customers a shop: at least" in text


@pytest.mark.parametrize("dp", ["central", "distributed", "none"])
def test_the_others_are_not_called_hopeless(capsys, dp):
    assert main([*GROCERS, "--dp", dp]) == 0
    text = capsys.readouterr().out
    assert "CANNOT" not in text
    assert "This can pay." in text


def test_the_figures_that_were_asked_for_are_there(capsys):
    main([*GROCERS, "--lifetime", "12", "--overlap", "3"])
    text = " ".join(capsys.readouterr().out.split())
    assert "epsilon 8, delta 1e-5 for one customer of one shop with all interactions (user level" in text
    assert "counts [3,000 x 1]: sigma" in text
    assert "12 trainings at epsilon 8 each need a ceiling of" in text
    assert "for a customer of 3 shops" in text
    assert "signal to noise: of the league" in text
    assert "federation in which joining can pay, on data like grocery baskets" in text
    assert "that keep half of pooling's gain, on data like grocery baskets:" in text


def test_the_split_of_hybrid_is_told(capsys):
    main([*GROCERS, "--dp", "central", "--method", "hybrid"])
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "Split counts 10%, pairs 90%, nothing for gradients: on the data measured gradients do not pay"
        in text
    )
    main([*GROCERS, "--dp", "central", "--method", "hybrid", "--set", "method.refinement_share=0.5"])
    assert "Split counts 5%, pairs 45%, gradients 50%" in " ".join(capsys.readouterr().out.split())
    main([*GROCERS, "--dp", "central"])
    assert "Split" not in capsys.readouterr().out


def test_no_line_is_wider_than_a_terminal(capsys):
    main(
        [*GROCERS, "--method", "dpsgd", "--set", "method.sampling_rate=0.5", "--set", "method.local_steps=2"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    text = " ".join(" ".join(lines).split())
    assert "each customer with probability 0.5, 2 sums a round" in text
    assert "dpsgd kept less than co-occurrence" in text


def test_json_is_the_only_thing_on_stdout(capsys):
    assert main([*GROCERS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "hopeless"
    assert set(found["payoff"]["kinds"]) == {"grocery baskets", "films", "video games"}


@pytest.mark.parametrize(
    "wrong",
    [
        ["--dp", "laplace"],
        ["--epsilon", "-1"],
        ["--set", "speed=1"],
        ["--set", "method.vocabulary"],
        ["--set", "budget.ceiling=3"],
        ["--set", "method.nothing=3"],
        ["--lifetime", "0"],
        ["--shops", "many"],
    ],
)
def test_bad_input_is_one_line_and_exit_2(capsys, wrong):
    assert main([*GROCERS, *wrong]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert wrong[0] in captured.err or wrong[1].split("=")[0] in captured.err


def test_the_figures_without_a_default_are_asked_for(capsys):
    assert main(["plan", "--shops", "5", "--items", "100"]) == 2
    assert "--customers" in capsys.readouterr().err
