"""Where `sops` would go for a data key, and that a file which can be misread sends it nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.errors import SecretsError
from reconciler.secrets.sops_keys import key_services

VAULT = {"vault_address": "https://vault.example.com:8200", "engine_path": "transit", "key_name": "k", "enc": "x"}
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0000-11"

KNOWN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "keys of this machine": ({"age": [{"recipient": "age1x", "enc": "x"}], "pgp": [{"fp": "AB", "enc": "x"}]}, []),
    "an age plugin, which only an identity of this machine starts": ({"age": [{"recipient": "age1yubikey1x"}]}, []),
    "Vault": ({"hc_vault": [VAULT]}, ["https://vault.example.com:8200"]),
    "AWS": ({"kms": [{"arn": KEY, "context": {"App Name": "x"}}]}, ["https://kms.eu-west-1.amazonaws.com"]),
    "AWS with a role": (
        {"kms": [{"arn": KEY, "role": "arn:aws:iam::1:role/x"}]},
        ["https://kms.eu-west-1.amazonaws.com", "https://sts.eu-west-1.amazonaws.com"],
    ),
    "AWS of the government": (
        {"kms": [{"arn": KEY.replace(":aws:", ":aws-us-gov:")}]},
        ["https://kms.eu-west-1.amazonaws.com"],
    ),
    "AWS in China": ({"kms": [{"arn": KEY.replace(":aws:", ":aws-cn:")}]}, ["https://kms.eu-west-1.amazonaws.com.cn"]),
    "Google": ({"gcp_kms": [{"resource_id": "projects/x"}]}, ["https://cloudkms.googleapis.com"]),
    "Azure": ({"azure_kv": [{"vault_url": "https://x.vault.azure.net"}]}, ["https://x.vault.azure.net"]),
    "in a group, beside one that is not": (
        {"gcp_kms": [{"resource_id": "x"}], "key_groups": [{"hc_vault": [VAULT]}]},
        ["https://cloudkms.googleapis.com", "https://vault.example.com:8200"],
    ),
}


@pytest.mark.parametrize(("info", "urls"), KNOWN.values(), ids=KNOWN)
def test_where_a_file_sends_sops(info: dict[str, Any], urls: list[str]) -> None:
    assert key_services({"TOKEN": "x", "sops": {"mac": "x", **info}}) == urls


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a kind that is not known": ({"sops": {"newkms": [{"id": "x"}]}}, "a key under newkms"),
    "no address": ({"sops": {"hc_vault": [{"key_name": "k"}]}}, "a key under hc_vault"),
    "a region that leads elsewhere": (
        {"sops": {"kms": [{"arn": "arn:aws:kms:x.evil.example/:1:key/2"}]}},
        "a key under kms",
    ),
    "another case, which Go takes for the same": ({"sops": {"HC_Vault": [VAULT]}}, "'HC_Vault'"),
    "an address in another case": ({"sops": {"hc_vault": [{**VAULT, "Vault_Address": "x"}]}}, "'Vault_Address'"),
    "a letter that Go folds": ({"sops": {"hc_vault": [VAULT]}, "\u017fops": {}}, "a second `sops` part"),
    "a part in another case": ({"sops": {}, "SOPS": {"hc_vault": [VAULT]}}, "a second `sops` part"),
    "groups that are no list": ({"sops": {"key_groups": {"hc_vault": [VAULT]}}}, "not a list of groups"),
    "a group that is none": ({"sops": {"key_groups": [["hc_vault", VAULT]]}}, "not a list of groups"),
    "a merge": ({"sops": {"<<": {"hc_vault": [VAULT]}}}, "'<<'"),
}


@pytest.mark.parametrize(("data", "says"), REFUSED.values(), ids=REFUSED)
def test_ambiguous_file_names_no_host(data: dict[str, Any], says: str) -> None:
    with pytest.raises(SecretsError) as caught:
        key_services(data)
    assert says in str(caught.value)
