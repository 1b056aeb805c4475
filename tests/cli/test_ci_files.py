"""The CI jobs and the hook that are ready to copy: what is in them is run here, as a runner would."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import __version__
from tests.repo import PROGRAM, Repo, run_cli
from tests.servers import Received, Service

ROOT = Path(__file__).parents[2]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """main and a branch with a broken file and a new host, merged as a pull request is for its checks."""
    made = Repo(tmp_path / "repo")
    made.manifest("slack", {"execute": [{"url": "https://slack.com/"}]})
    made.hire("ada", "slack")
    made.commit("main")
    made.git("switch", "--quiet", "--create", "branch")
    made.manifest("evil", {"execute": [{"url": "https://evil.example/"}]})
    made.hire("bob", "evil", "slak")
    made.commit("branch")
    made.git("switch", "--quiet", "main")
    made.git("merge", "--quiet", "--no-ff", "--message", "merge", "branch")
    return made


def shell(repo: Repo, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A step as runners run it: bash, and the first command that fails ends it."""
    path = os.pathsep.join([str(PROGRAM.parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=repo.root,
        env=repo.environment({"PATH": path, "GNUPGHOME": "/nowhere", **env}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hook(repo: Repo) -> None:
    hook, tests = read(".pre-commit-hooks.yaml")
    assert (hook["id"], hook["language"], hook["pass_filenames"]) == ("reconcile-validate", "system", False)
    assert (tests["id"], tests["entry"], tests["pass_filenames"]) == ("reconcile-test", "reconcile test", False)
    program, *arguments = shlex.split(hook["entry"])
    assert program == "reconcile"
    done = run_cli(repo, *arguments)
    assert done.code == 1
    assert "did you mean slack?" in done.out


def github(name: str) -> str:
    steps = read("docs/ci/github.yml")["jobs"]["review"]["steps"]
    script: str = next(step["run"] for step in steps if step.get("name") == name)
    return script


def test_github_validates_with_annotations(repo: Repo) -> None:
    done = shell(repo, github("Validate"), GITHUB_ACTIONS="true")
    assert done.returncode == 1
    assert "\n::error file=hires/bob.yaml,line=6::access slak: " in done.stdout


def test_github_writes_the_comment_although_a_file_has_an_error(repo: Repo) -> None:
    summary = repo.root / "summary"
    done = shell(repo, github("Diff"), GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 0, done.stderr
    text = (repo.root / "comment.md").read_text()
    assert text.startswith("**NEW HOST `evil.example`, 2 grants added, 1 manifest added, 1 problem added**\n")
    assert summary.read_text() == text


def test_github_fails_where_there_is_nothing_to_post(repo: Repo) -> None:
    repo.git("checkout", "--quiet", "--orphan", "alone")
    repo.commit("without a parent")
    assert shell(repo, github("Diff"), GITHUB_STEP_SUMMARY="/dev/null").returncode != 0


@pytest.mark.parametrize("known", ["", "17"], ids=["first", "again"])
def test_github_keeps_one_comment(repo: Repo, tmp_path: Path, known: str) -> None:
    """With a `gh` that writes down what it is asked."""
    stand_in = tmp_path / "bin" / "gh"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncase "$*" in *--paginate*) echo {known};; esac\n')
    stand_in.chmod(0o755)
    path = os.pathsep.join([str(stand_in.parent), os.environ["PATH"]])
    done = shell(repo, github("Comment"), PATH=path, GITHUB_REPOSITORY="o/r", PULL="5")
    assert done.returncode == 0, done.stderr
    last = (tmp_path / "asked").read_text().splitlines()[-1]
    sent = "--method PATCH repos/o/r/issues/comments/17" if known else "--method POST repos/o/r/issues/5/comments"
    assert last == f"api --silent {sent} -F body=@comment.md"


@pytest.mark.parametrize("job", ["github", "gitlab", "github-import", "gitlab-import"])
@pytest.mark.parametrize("wanted", ["--requirement tools/it.lock --find-links tools", None])
def test_job_installs_from_configured_source(repo: Repo, tmp_path: Path, job: str, wanted: str | None) -> None:
    """With a `pip` that writes down what it is told; from nowhere, where nobody said."""
    stand_in = tmp_path / "bin" / "pip"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    path = os.pathsep.join([str(stand_in.parent), os.environ["PATH"]])
    jobs = read(f"docs/ci/{job}.yml")
    if job.startswith("github"):
        steps = next(iter(jobs["jobs"].values()))["steps"]
        script, variable = next(step["run"] for step in steps if step.get("name") == "Install"), "FROM"
    else:
        lines = jobs["import" if job == "gitlab-import" else "review"]["script"]
        script, variable = next(line for line in lines if line.startswith("pip")), "ACCESS_RECONCILER"
    done = shell(repo, script, PATH=path, **({variable: wanted} if wanted else {}))
    if wanted is None:
        assert (done.returncode != 0, done.stdout) == (True, "")
        assert "see the head of this file" in done.stderr
    else:
        words = [word for word in done.stdout.split() if word != "--quiet"]
        assert words == ["install", "--no-deps", "--require-hashes", *wanted.split()]


PINNED = re.compile(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


@pytest.mark.parametrize(
    "path",
    [
        "docs/ci/github.yml",
        "docs/ci/github-import.yml",
        *(str(file.relative_to(ROOT)) for file in sorted((ROOT / ".github/workflows").iterdir())),
    ],
)
def test_actions_are_pinned_by_commit_and_rights_are_named(path: str) -> None:
    used = [line.strip() for line in (ROOT / path).read_text().splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not PINNED.search(line)] == []
    assert read(path)["permissions"]["contents"] == ("write" if path.endswith("-import.yml") else "read")


def test_a_release_is_published_without_a_token() -> None:
    jobs = read(".github/workflows/release.yml")["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == "build"
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()
    checked = next(step for step in jobs["build"]["steps"] if "tag" in step.get("name", ""))
    run = ["bash", "-euc", checked["run"]]
    for tag, code in ((f"v{__version__}", 0), ("v99.0.0", 1)):
        assert subprocess.run(run, cwd=ROOT, env={**os.environ, "TAG": tag}, check=False).returncode == code


def test_an_image_is_published_only_where_its_base_is_named() -> None:
    job = read(".github/workflows/release.yml")["jobs"]["image"]
    assert (job["if"], job["needs"], job["environment"]) == ("vars.IMAGE_BASE_DIGEST != ''", "build", "release")
    assert job["permissions"] == {"contents": "read", "packages": "write"}
    for step in job["steps"]:
        done = subprocess.run(["bash", "-n", "-c", step.get("run", "")], check=False)
        assert done.returncode == 0
        assert "${{" not in step.get("run", ""), "what a tag is called is never part of a script"
    built = next(step["run"] for step in job["steps"] if step.get("name") == "Build and publish")
    assert {"--provenance mode=max", "--sbom true"} <= set(re.findall(r"--(?:provenance|sbom) \S+", built))


def test_no_github_job_is_given_a_secret() -> None:
    text = (ROOT / "docs/ci/github.yml").read_text()
    assert "secrets." not in text
    assert "pull_request_target" not in text


def gitlab(job: str) -> str:
    lines = [line for line in read("docs/ci/gitlab.yml")[job]["script"] if not line.startswith("pip install")]
    return "\n".join(lines)


def test_gitlab_reviews(repo: Repo) -> None:
    base = repo.git("rev-parse", "HEAD^1")
    done = shell(repo, gitlab("review"), CI_MERGE_REQUEST_DIFF_BASE_SHA=base)
    assert done.returncode == 1, "validate is the gate"
    assert done.stdout.startswith("**NEW HOST `evil.example`")
    assert (repo.root / "comment.md").read_text().endswith("<!-- reconcile diff -->\n")


class GitLab(Service):
    """The notes of one merge request, in pages of 100 as the real one has them."""

    def __init__(self) -> None:
        super().__init__()
        self.notes = [{"id": number, "body": "a person's"} for number in range(150)]
        self.route("GET", "/api/v4/projects/7/merge_requests/5/notes", self._list)
        self.route("POST", "/api/v4/projects/7/merge_requests/5/notes", self._create)
        self.route("PUT", "/api/v4/projects/7/merge_requests/5/notes/{number}", self._change)

    def _list(self, received: Received) -> Any:
        page = int(received.query["page"][0])
        return self.notes[100 * (page - 1) : 100 * page]

    def _create(self, received: Received) -> Any:
        self.notes.append({"id": len(self.notes), **received.json()})
        return 201, self.notes[-1]

    def _change(self, received: Received, number: str) -> Any:
        self.notes[int(number)] = {"id": int(number), **received.json()}
        return self.notes[int(number)]


def test_gitlab_keeps_one_comment(repo: Repo) -> None:
    with GitLab() as server:
        for text in ("first", "second"):
            repo.write("comment.md", f"{text}\n\n<!-- reconcile diff -->\n")
            done = shell(
                repo,
                gitlab("comment"),
                CI_API_V4_URL=f"{server.url}/api/v4",
                CI_PROJECT_ID="7",
                CI_MERGE_REQUEST_IID="5",
                ACCESS_COMMENT_TOKEN="invented",
            )
            assert done.returncode == 0, done.stderr
            assert json.dumps(server.notes).count("<!-- reconcile diff -->") == 1
            assert server.notes[-1]["body"] == f"{text}\n\n<!-- reconcile diff -->"
        assert {request.headers["PRIVATE-TOKEN"] for request in server.requests} == {"invented"}


def test_gitlabs_token_is_in_a_job_without_the_branchs_code() -> None:
    jobs = read("docs/ci/gitlab.yml")
    assert jobs["comment"]["variables"]["GIT_STRATEGY"] == "none"
    assert "ACCESS_COMMENT_TOKEN" not in json.dumps(jobs["review"])


# --- imports --------------------------------------------------------------------------------------------------------

GH = """#!/bin/sh
echo "$*" >> "$GH_LOG"
test "$2" != list || cat "$GH_OPEN"
"""


@pytest.fixture
def people(tmp_path: Path) -> Repo:
    """A repository with a remote, and an import of a CSV that is on the machine."""
    made = Repo(tmp_path / "people")
    made.settings()
    for folder in ("hires", "manifests"):
        made.write(f"{folder}/.gitkeep", "")
    (tmp_path / "people.csv").write_text("Email,First\nada@example.com,Ada\n")
    structure = {"email": "Email", "first_name": "First"}
    made.write("config/imports/hr.yaml", {"file": str(tmp_path / "people.csv"), "data_structure": structure})
    made.commit()
    made.git("init", "--quiet", "--bare", str(tmp_path / "remote.git"))
    made.git("remote", "add", "origin", str(tmp_path / "remote.git"))
    made.git("push", "--quiet", "origin", "main")
    return made


def remote(repo: Repo, *arguments: str) -> str:
    return repo.git(f"--git-dir={repo.root.parent / 'remote.git'}", *arguments)


def afresh(repo: Repo) -> None:
    """As a runner's next checkout: no branch but main."""
    repo.git("branch", "--quiet", "--delete", "--force", "import/hr")


def test_github_import_opens_a_pull_request_and_keeps_it_up_to_date(people: Repo, tmp_path: Path) -> None:
    (job,) = read("docs/ci/github-import.yml")["jobs"].values()
    script = next(step["run"] for step in job["steps"] if step.get("name") == "Import")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(GH)
    (tmp_path / "bin/gh").chmod(0o755)
    log, listed = tmp_path / "gh.log", tmp_path / "open"
    listed.write_text("")
    env = {
        "IMPORT": job["env"]["IMPORT"],
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GH_LOG": str(log),
        "GH_OPEN": str(listed),
    }
    with_gh = f'PATH="{tmp_path / "bin"}:$PATH"\n{script}'
    done = shell(people, with_gh, **env)
    assert done.returncode == 0, done.stderr
    assert log.read_text().splitlines()[-1] == (
        "pr create --head import/hr --title Import people from hr --body-file body.md"
    )
    assert remote(people, "diff", "--name-only", "main", "import/hr") == "hires/ada.yaml"
    assert (tmp_path / "summary.md").read_text().startswith("**hr: 1 created**")

    afresh(people)
    listed.write_text("7\n")
    (tmp_path / "people.csv").write_text("Email,First\nada@example.com,Ada\nbob@example.com,Bob\n")
    assert shell(people, with_gh, **env).returncode == 0
    assert log.read_text().splitlines()[-1] == "pr edit 7 --body-file body.md"
    assert remote(people, "diff", "--name-only", "main", "import/hr").splitlines() == [
        "hires/ada.yaml",
        "hires/bob.yaml",
    ]

    people.git("checkout", "--quiet", "import/hr")
    theirs = people.commit("a person's")
    people.git("push", "--quiet", "origin", "import/hr")
    people.git("checkout", "--quiet", "main")
    afresh(people)
    done = shell(people, with_gh, **env)
    assert done.returncode == 1
    assert "has commit" in done.stderr
    assert remote(people, "rev-parse", "import/hr") == theirs

    (tmp_path / "people.csv").write_text("Email,First\n")
    asked = log.read_text()
    assert shell(people, with_gh, **env).returncode == 1
    assert log.read_text() == asked


def test_github_import_holds_its_key_for_schedules_alone() -> None:
    workflow = read("docs/ci/github-import.yml")
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}  # YAML 1.1 takes `on` for a truth value
    (checkout,) = [step for step in workflow["jobs"]["import"]["steps"] if "checkout" in step.get("uses", "")]
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"


def test_gitlab_import_opens_a_merge_request(people: Repo, tmp_path: Path) -> None:
    job = read("docs/ci/gitlab-import.yml")["import"]
    assert [rule["if"].split(" && ")[0] for rule in job["rules"]] == ['$CI_PIPELINE_SOURCE == "schedule"']
    hook = tmp_path / "remote.git/hooks/post-receive"
    hook.write_text(f"#!/bin/sh\nenv | grep ^GIT_PUSH_OPTION_ | sort > {tmp_path}/options\n")
    hook.chmod(0o755)
    remote(people, "config", "receive.advertisePushOptions", "true")
    address = "https://import:$ACCESS_IMPORT_TOKEN@$CI_SERVER_HOST/$CI_PROJECT_PATH.git"
    script = job["script"][-1]
    assert address in script
    env = {"IMPORT": "hr", "CI_DEFAULT_BRANCH": "main", "CI_JOB_URL": "https://gitlab.example.com/jobs/1"}
    done = shell(people, script.replace(address, str(tmp_path / "remote.git")), **env)
    assert done.returncode == 0, done.stderr
    assert remote(people, "diff", "--name-only", "main", "import/hr") == "hires/ada.yaml"
    assert (tmp_path / "options").read_text().splitlines() == [
        "GIT_PUSH_OPTION_0=merge_request.create",
        "GIT_PUSH_OPTION_1=merge_request.target=main",
        "GIT_PUSH_OPTION_2=merge_request.title=Import people from hr",
        "GIT_PUSH_OPTION_3=merge_request.description=https://gitlab.example.com/jobs/1 says what changes.",
        "GIT_PUSH_OPTION_COUNT=4",
    ]
