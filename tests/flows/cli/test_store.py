"""`digitflow gc` and `verify`."""

from digitflow.storage.store import Store
from tests.answers import Cli
from tests.walk import Walk


def test_verify_finds_damage(cli: Cli, cache: Store, first: Walk):
    assert cli("verify").code == 0
    sha256 = first.output("train", "model").sha256
    path = cache.objects.path(sha256)
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    answer = cli("verify")
    assert answer.code == 1
    assert sha256[:12] in answer.out
    assert cli("verify", "--repair").code == 1
    assert not path.exists()
    assert "train" in cli("plan").out


def test_gc_only_says_what_it_would_delete(cli: Cli, cache: Store):
    before = len(list(cache.objects))
    assert "nothing to delete" in cli("gc").out
    assert cli("gc", "--keep-days", "0").code == 0
    assert len(list(cache.objects)) == before
