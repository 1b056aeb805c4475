"""What is in deploy/, the Containerfile and compose.yaml: in order by their own tools, and true of this program."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import __version__
from reconciler.intake.forge import TOKEN
from reconciler.ledger.opening import StateLocation
from reconciler.model.settings import Pages, Settings
from reconciler.web.serve import app
from website.reference import commands, options_of

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "deploy/systemd"
KUBERNETES = ROOT / "deploy/kubernetes"
UNITS = sorted(SYSTEMD.iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
PAGE = (ROOT / "docs/deploy.md").read_text()
STATE = "/var/lib/reconciler"


def program(name: str) -> str:
    """A tool that checks files of one kind, from this environment or from the system; skips where it is not there."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def by_id(path: Path) -> str:
    return path.name


# --- systemd ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS, ids=by_id)
def test_systemd_analyze_accepts_each_unit(unit: Path) -> None:
    """An unknown key is a word on stderr, and exit code 0."""
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", f"./{unit.name}"],
        cwd=SYSTEMD,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", SERVICES, ids=by_id)
def test_a_service_is_hardened(unit: Path) -> None:
    done = subprocess.run(
        [program("systemd-analyze"), "security", "--offline=true", "--no-pager", "--threshold=25", f"./{unit.name}"],
        cwd=SYSTEMD,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    found = re.search(r"Overall exposure level for \S+ (\d\.\d)", done.stdout)
    assert found is not None
    assert f"rates them {found[1]}" in PAGE


def keys(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_daemon_and_pass_have_the_same_rights() -> None:
    of_the_daemon, of_a_pass = (
        {
            name: value
            for name, value in keys(unit).items()
            if name.startswith(
                (
                    "Protect",
                    "Private",
                    "Restrict",
                    "System",
                    "Capab",
                    "NoNew",
                    "ReadWrite",
                    "State",
                    "Env",
                    "User",
                    "Load",
                    "Memory",
                    "UMask",
                )
            )
        }
        for unit in SERVICES
    )
    of_the_daemon.pop("RestartSec", None)
    assert of_the_daemon == of_a_pass
    assert len(of_the_daemon) > 20


def test_service_unit_is_notified_of_the_daemons_health() -> None:
    daemon = keys(SYSTEMD / "reconcile.service")
    assert (daemon["Type"], daemon["ExecStart"]) == (["notify"], ["/usr/bin/env reconcile daemon"])
    assert int(daemon["TimeoutStopSec"][0].removesuffix("s")) > 30


# --- the container ----------------------------------------------------------------------------------------------------


def container() -> str:
    return (ROOT / "Containerfile").read_text()


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [program("hadolint"), str(ROOT / "Containerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_stage_is_of_the_base_and_the_last_is_not_roots() -> None:
    text = container()
    assert text.index("ARG BASE=debian:trixie-slim@${DIGEST}\n") < text.index("FROM")
    assert "DIGEST=" not in text, "it is said by whoever builds"
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert stages == ["${BASE}", "${BASE}"]
    last = text.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.+)$", last, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^VOLUME (.+)$", last, re.MULTILINE) == [STATE]
    assert "HEALTHCHECK" in last


def test_build_context_has_every_file_of_the_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", container(), re.MULTILINE)
        for name in line.split()[:-1]
        if not name.startswith("--")
    }
    assert all((ROOT / name).exists() for name in copied)
    assert {name for name in copied if not any(name == each or name.startswith(f"{each}/") for each in sent)} == set()


def test_the_entrypoint_takes_the_key_in_and_becomes_the_program(tmp_path: Path) -> None:
    """With stand-ins that write down what they are told; where no key is mounted, no gpg is called."""
    entry = ROOT / "deploy/container/entrypoint"
    assert entry.stat().st_mode & stat.S_IXUSR
    for name in ("gpg", "reconcile"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    script = tmp_path / "entrypoint"
    home = tmp_path / "home"
    for mounted in (False, True):
        key = tmp_path / "key"
        if mounted:
            key.write_text("invented")
        script.write_text(entry.read_text().replace("/run/secrets/gnupg-key", str(key)))
        path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
        done = subprocess.run(
            ["sh", script, "daemon"],
            env={"PATH": path, "GNUPGHOME": str(home)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == (f"gpg --batch --quiet --import {key}\n" if mounted else "") + "reconcile daemon\n"
        assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_compose() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    service = services["reconcile"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["volumes"][1] == f"state:{STATE}"
    assert int(service["stop_grace_period"].removesuffix("s")) > 30
    desk = services["desk"]
    assert (desk["read_only"], desk["cap_drop"], desk["profiles"]) == (True, ["ALL"], ["desk"])
    assert {"secrets", "env_file"} & desk.keys() == set(), "neither the key nor a deploy key"
    assert [each.partition(":")[2] for each in desk["volumes"]] == ["-./desk}:/repo"], "nor the state"
    assert set(service["secrets"]) == set(re.findall(r"/run/secrets/([\w-]+)", container())) | {"gnupg-key"}


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def merged(base: Any, patch: Any) -> Any:
    """What kustomize's strategic merge makes of these files: lists of things with a name go by that."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{key: merged(base[key], value) if key in base else value for key, value in patch.items()}}
    if isinstance(base, list) and isinstance(patch, list) and all("name" in item for item in base + patch):
        by_name = {item["mountPath" if "mountPath" in item else "name"]: item for item in base}
        for item in patch:
            key = item["mountPath" if "mountPath" in item else "name"]
            by_name[key] = merged(by_name[key], item) if key in by_name else item
        return list(by_name.values())
    return patch


def made_by(name: str) -> dict[str, dict[str, Any]]:
    """The resources of an overlay, by their kinds."""
    overlay = KUBERNETES / name
    customized = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    files = [overlay / name for name in customized["resources"] if name != "../base"]
    if "../base" in customized["resources"]:
        base = yaml.safe_load((KUBERNETES / "base/kustomization.yaml").read_text())
        files += [KUBERNETES / "base" / name for name in base["resources"]]
    resources = {made["kind"]: made for file in files for made in yaml.safe_load_all(file.read_text())}
    for patch in customized.get("patches", ()):
        wanted = yaml.safe_load((overlay / patch["path"]).read_text())
        resources[wanted["kind"]] = merged(resources[wanted["kind"]], wanted)
    return resources


OVERLAYS = {
    "one-member": ("ServiceAccount", "PersistentVolumeClaim"),
    "fleet": ("ServiceAccount", "PodDisruptionBudget"),
    "desk": ("NetworkPolicy",),
}


@pytest.mark.parametrize(
    ("overlay", "kind"),
    [(name, kind) for name, own in OVERLAYS.items() for kind in ("Deployment", "Service", *own)],
)
def test_overlays_are_valid_for_kubernetes(overlay: str, kind: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    validate.validate(made_by(overlay)[kind], validate.latest_version(), strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_of_a_pod_is_restricted(overlay: str) -> None:
    pod = made_by(overlay)["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for container in (*pod["initContainers"], *pod["containers"]):
        rights = container["securityContext"]
        assert not rights["allowPrivilegeEscalation"], container["name"]
        assert rights["readOnlyRootFilesystem"], container["name"]
        assert rights["capabilities"] == {"drop": ["ALL"]}, container["name"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounted = {mount["name"] for each in (*pod["initContainers"], *pod["containers"]) for mount in each["volumeMounts"]}
    assert mounted == volumes


def test_one_daemon_at_a_time_on_a_file_and_several_on_a_server() -> None:
    alone, fleet = (made_by(overlay)["Deployment"]["spec"] for overlay in ("one-member", "fleet"))
    assert (alone["replicas"], alone["strategy"]) == (1, {"type": "Recreate"})
    assert (fleet["replicas"], fleet["strategy"]["type"]) == (3, "RollingUpdate")
    for spec in (alone, fleet):
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 30
    (container,) = fleet["template"]["spec"]["containers"]
    assert [each["name"] for each in container["env"]] == ["RECONCILE_MEMBER"]


def test_desk_has_neither_key_nor_state_and_hears_only_the_proxy() -> None:
    made = made_by("desk")
    pod = made["Deployment"]["spec"]["template"]["spec"]
    [init], [container] = pod["initContainers"], pod["containers"]
    sources = [source for each in (init, container) for source in each["envFrom"]]
    assert {next(iter(each.values()))["name"] for each in sources} == {"desk", "reconcile-desk"}
    assert {volume["name"] for volume in pod["volumes"]} == {"repository", "tmp", "keys"}
    labels = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    policy = made["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == made["Service"]["spec"]["selector"] == labels
    [[rule], [port]] = policy["ingress"][0]["from"], policy["ingress"][0]["ports"]
    assert rule["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "oauth2-proxy"}
    assert port["port"] == container["ports"][0]["name"]


def test_oauth2_proxy_of_the_guide_signs_people_in_for_the_desk() -> None:
    page = (ROOT / "docs/how-to/desk.md").read_text()
    compose, kubernetes = (
        yaml.safe_load(each) for each in re.findall(r"```yaml\n(# compose.*?|# oauth.*?)```", page, re.DOTALL)
    )
    pages = Pages.model_validate(yaml.safe_load(re.findall(r"```yaml\n(pages: .*?)```", page, re.DOTALL)[0])["pages"])
    proxy = compose["services"]["oauth2-proxy"]
    assert proxy["networks"]["default"]["ipv4_address"] in map(str, pages.trusted_proxies)
    assert proxy["environment"]["OAUTH2_PROXY_UPSTREAMS"] == "http://desk:8090"
    labels = kubernetes["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/name": "oauth2-proxy"}, "the overlay's NetworkPolicy lets it in"
    given = {each["name"]: each.get("value") for each in kubernetes["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert given["OAUTH2_PROXY_UPSTREAMS"] == "http://desk"
    assert given["OAUTH2_PROXY_PASS_USER_HEADERS"] == proxy["environment"]["OAUTH2_PROXY_PASS_USER_HEADERS"] == "true"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_version_of_the_image_is_the_programs(overlay: str) -> None:
    (image,) = yaml.safe_load((KUBERNETES / overlay / "kustomization.yaml").read_text())["images"]
    assert image["newTag"] == __version__


# --- what they say of the program -------------------------------------------------------------------------------------

EVERYWHERE = [
    ROOT / "Containerfile",
    ROOT / "compose.yaml",
    *(path for path in (ROOT / "deploy").rglob("*") if path.is_file()),
]


def test_every_variable_of_ours_is_one() -> None:
    known = {
        option.envvar
        for _, command in commands()
        for option in (*options_of(command), *command.params)
        if getattr(option, "envvar", None)
    }
    named = {name for file in EVERYWHERE for name in re.findall(r"\bRECONCILE_[A-Z_]+", file.read_text())}
    named |= set(re.findall(r"\bRECONCILE_[A-Z_]+", PAGE))
    assert {"RECONCILE_REPO"} <= named <= known | {TOKEN, "RECONCILE_PAGES_TOKEN"}


def test_every_path_that_is_asked_is_served() -> None:
    named = {path for file in EVERYWHERE for path in re.findall(r"(?:path: |:8080)(/\w+)", file.read_text())}
    assert named == {"/healthz", "/readyz"}
    source = Path(app.__code__.co_filename).read_text()
    assert [path for path in named if f'"{path}"' not in source] == []


def test_the_settings_on_the_page_are_read_and_fit_the_state_folder() -> None:
    (written,) = re.findall(r"```yaml\n# config/reconciler.yaml\n(.*?)```", PAGE, re.DOTALL)
    settings = Settings.model_validate(yaml.safe_load(written))
    path = StateLocation(settings.state, Path("/repo")).file
    assert path is not None
    assert path == Path(STATE, "state", "state.db"), "a folder of its own: that of a volume is writable by its group"
    (folder,) = [
        each
        for each in made_by("one-member")["Deployment"]["spec"]["template"]["spec"]["initContainers"]
        if each["name"] == "state-folder"
    ]
    assert folder["command"][-1] == str(path.parent)
    assert keys(SYSTEMD / "reconcile.service")["StateDirectory"] == [Path(STATE).name]
    assert settings.listen.endswith(":8080")


def test_a_group_writable_volume_takes_the_state_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """What `fsGroup` makes of a volume, and what the init container does to it."""
    from contextlib import closing

    from reconciler.model.errors import LedgerError

    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o2770)
    with pytest.raises(LedgerError, match="keep the state in a folder of its own"):
        StateLocation(f"sqlite:///{volume}/state.db", tmp_path).writer()
    for mode in (None, 0o2770):  # new, and as a later start of the pod finds it
        if mode is not None:
            (volume / "state").chmod(mode)
        subprocess.run(["install", "--directory", "--mode=0700", volume / "state"], check=True)
        with closing(StateLocation(f"sqlite:///{volume}/state/state.db", tmp_path).writer()):
            pass
