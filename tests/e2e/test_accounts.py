"""`spec.account` from the configuration file to the instances, and the error for a wrong region."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Operator, Tenant, soon, until

# The account is moto's default, so that the role sees the instances of the playground.
CONFIG = """
accounts:
  acme: {role_arn: 'arn:aws:iam::123456789012:role/booking-operator', regions: [eu-central-1]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG)
    return file


async def test_a_resource_of_another_account_is_booked(
    tenant: Tenant, operator: Operator, config: Path
) -> None:
    async with operator(config=config):
        tenant.resource(account="acme")
        tenant.booking("bk", soon(0), soon(600))
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
        assert tenant.states() == ["running"] * 2


async def test_a_region_that_the_account_is_not_for_is_reported(
    tenant: Tenant, operator: Operator, config: Path
) -> None:
    async with operator(config=config):
        tenant.resource(account="acme", region="eu-west-1")
        await until(lambda: tenant.condition("resource", "res", "Synced") == ("False", "RegionNotAllowed"))
        assert "only for eu-central-1" in str(tenant.status("resource", "res")["conditions"])
