"""The declarative classes fit the real tables, and engines are made for whatever names Open WebUI's database."""

import os
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path

import databases
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Session

from openwebui_token_tracking import db, model_pricing
from openwebui_token_tracking.db import base
from openwebui_token_tracking.models import ModelPricingSchema
from openwebui_token_tracking.settings import init_base_settings
from openwebui_token_tracking.tracking import TokenTracker
from openwebui_token_tracking.user import serialize_user

CLASSES = [one for one in vars(db).values() if isinstance(one, type) and issubclass(one, DeclarativeBase)]
PRICE = ModelPricingSchema(
    provider="openai",
    id="gpt-test",
    name="Test",
    input_cost_credits=3000,
    per_input_tokens=1_000_000,
    output_cost_credits=15000,
    per_output_tokens=1_000_000,
)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_class_fits_its_table(cls: type[DeclarativeBase], template: str) -> None:
    table = cls.__table__
    assert isinstance(table, sa.Table)
    real = {column["name"]: column for column in sa.inspect(databases.engine(template)).get_columns(table.name)}
    for column in table.columns:
        # SQLite's inspector takes a column of the type UUID for a number, as SQLite does.
        kinds = (sa.Uuid, sa.NUMERIC) if isinstance(column.type, sa.Uuid) else column.type._type_affinity
        assert isinstance(real[column.name]["type"], kinds), column
    if cls not in (db.User, db.LedgerEntry):
        # Which entry of the ledger a row is, is ours to know.
        assert set(real) - {"tracking_id"} == set(table.columns.keys())
    if cls is db.LedgerEntry:
        assert {name: column["nullable"] for name, column in real.items() if name in table.columns} == {
            column.name: column.nullable for column in table.columns
        }


def test_rows_are_written_and_read(url: str) -> None:
    model_pricing.add_model_pricing(url, [PRICE])
    with Session(db.init_db(url)) as session:
        group = db.CreditGroup(name="staff", max_credit=2000, description="Who works here")
        ann = session.get_one(db.User, "ann")
        session.add(db.CreditGroupUser(credit_group=group, user=ann))
        allowance = db.SponsoredAllowance(name="course", sponsor_id="ann", total_credit_limit=1000)
        allowance.base_models.append(db.SponsoredAllowanceBaseModels(base_model_id="gpt-test"))
        session.add_all([allowance, db.BaseSetting(setting_key="base_credit_allowance", setting_value="500")])
        session.commit()
        [described] = serialize_user(ann)["credit_groups"]
        assert (described["id"], described["name"]) == (str(group.id), "staff")
        assert allowance.creation_date is not None and allowance.base_models[0].base_model.name == "Test"
    tracker = TokenTracker(url)
    assert tracker.max_credits({"id": "ann"}) == 2500
    assert tracker.remaining_credits({"id": "ann"}, "course") == (1000, 1000)


def test_the_ledger_is_read(url: str) -> None:
    model_pricing.add_model_pricing(url, [PRICE])
    init_base_settings(url)
    TokenTracker(url).log_token_usage("openai", "gpt-test", {"id": "ann"}, 1000, 101)
    with Session(db.init_db(url)) as session:
        [entry] = session.scalars(sa.select(db.LedgerEntry))
        assert (entry.user_id, entry.kind, entry.outcome, entry.estimated) == ("ann", "request", "complete", None)
        assert (entry.input_tokens, entry.output_tokens, entry.credits) == (1000, 101, Decimal("4.515"))
        assert entry.started.utcoffset() is not None and entry.started.year >= 2025
        [logged] = session.scalars(sa.select(db.TokenUsageLog))
        assert (logged.user_id, logged.prompt_tokens, logged.response_tokens) == ("ann", 1000, 101)


def test_only_migrations_make_other_tables() -> None:
    assert "token_tracking_ledger" not in base.Base.metadata.tables


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg"),
        ("sqlite:///a.db", "sqlite"),
        ("sqlite+aiosqlite:///a.db", "sqlite"),
    ],
)
def test_a_driver_that_is_installed_is_used(url: str, driver: str) -> None:
    engine = db.init_db(url)
    assert isinstance(engine, sa.Engine)
    assert engine.url.drivername == driver
    assert engine.url.database == sa.make_url(url).database and engine.url.password == sa.make_url(url).password


def test_what_is_no_url() -> None:
    with pytest.raises(sa.exc.ArgumentError):
        db.init_db("no url")


def test_the_schema_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    server, schema = os.environ["OWUI_TEST_POSTGRES"], f"modules_{uuid.uuid4().hex}"
    monkeypatch.setenv("DATABASE_SCHEMA", schema)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{schema}"')  # type: ignore[arg-type]
        try:
            db.migrate_database(server)
            with Session(db.init_db(server)) as session:
                session.add(db.CreditGroup(name="staff", max_credit=1, description=""))
                session.commit()
            found = connection.execute(f'SELECT name FROM "{schema}".token_tracking_credit_group')  # type: ignore[arg-type]
            assert found.fetchall() == [("staff",)]
        finally:
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE')  # type: ignore[arg-type]


def test_a_migration_can_be_repeated(url: str) -> None:
    model_pricing.add_model_pricing(url, [PRICE])
    assert db.migrate_database(url) is None
    assert model_pricing.list_model_pricing(url) == [PRICE.model_dump()]


def test_a_migration_that_fails_says_why(tmp_path: Path) -> None:
    no_database = tmp_path / "no.db"
    no_database.write_text("This is no database. " * 99)
    for url, why in (("mysql://u:p@h/d", "mysql"), (f"sqlite:///{no_database}", "not a database")):
        with pytest.raises(RuntimeError, match=why):
            db.migrate_database(url)


def test_ids_that_read_as_numbers_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    good = uuid.UUID("0123456789abcdef0123456789abcdef")
    digits, exponent = uuid.UUID(int=0x12345678901234567890123456789012), uuid.UUID(hex="1e" + "2" * 30)
    drawn = iter([digits, exponent, good])
    monkeypatch.setattr(base.uuid, "uuid4", lambda: next(drawn))
    assert base.new_id() == good


def test_only_db_loads_sqlalchemy() -> None:
    modules = ("credit_groups", "model_pricing", "models", "settings", "sponsored", "user", "tracking")
    imports = "; ".join(f"import openwebui_token_tracking.{name}" for name in modules)
    script = f"""
import sys
{imports}
assert "sqlalchemy" not in sys.modules
sys.modules["sqlalchemy"] = None
try:
    import openwebui_token_tracking.db
except ImportError as error:
    assert "pip install" in str(error), error
else:
    raise AssertionError("imported")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
