"""What the modules return, raise and do, on a real database behind a real worker."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import databases
import pytest
import sqlalchemy as sa

from openwebui_token_tracking import credit_groups, model_pricing, settings, sponsored
from openwebui_token_tracking.models import ModelPricingSchema
from openwebui_token_tracking.tracking import TokenTracker
from openwebui_token_tracking.user import find_user, serialize_user


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    """What the database says."""
    with databases.engine(url).connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(sql))]


def price(**changes: Any) -> dict[str, Any]:
    """A price as a dictionary."""
    usual = {
        "provider": "openai",
        "id": "gpt-test",
        "name": "Test",
        "input_cost_credits": 3000,
        "per_input_tokens": 1_000_000,
        "output_cost_credits": 15000,
        "per_output_tokens": 1_000_000,
    }
    return {**usual, **changes}


def add_price(url: str, **changes: Any) -> None:
    model_pricing.add_model_pricing(url, [ModelPricingSchema(**price(**changes))])


class TestCreditGroups:
    def test_one_is_made_changed_and_deleted(self, url: str) -> None:
        credit_groups.create_credit_group("staff", 2000, "Who works here", database_url=url)
        group = credit_groups.get_credit_group("staff", database_url=url)
        assert {**group, "id": None} == {
            "id": None,
            "name": "staff",
            "max_credit": 2000,
            "description": "Who works here",
        }
        assert group["id"] == str(UUID(group["id"]))
        credit_groups.update_credit_group("staff", new_credit_allowance=3000, database_url=url)
        assert credit_groups.get_credit_group("staff", database_url=url) == {**group, "max_credit": 3000}
        credit_groups.update_credit_group("staff", new_description="All", new_name="everybody", database_url=url)
        changed = {**group, "max_credit": 3000, "description": "All", "name": "everybody"}
        assert credit_groups.get_credit_group("everybody", database_url=url) == changed
        credit_groups.delete_credit_group("everybody", database_url=url)
        assert credit_groups.list_credit_groups(url) == []

    def test_upsert_says_whether_it_was_made(self, url: str) -> None:
        assert credit_groups.upsert_credit_group("staff", 1, "One", url) is True
        assert credit_groups.upsert_credit_group("staff", 2, "Two", url) is False
        assert rows(url, "SELECT name, max_credit, description FROM token_tracking_credit_group") == [
            ("staff", 2, "Two")
        ]

    def test_names_are_unique_in_any_case(self, url: str) -> None:
        credit_groups.create_credit_group("staff", 1, "", database_url=url)
        credit_groups.create_credit_group("guests", 1, "", database_url=url)
        for name in ("staff", "STAFF"):
            with pytest.raises(KeyError, match=name):
                credit_groups.create_credit_group(name, 1, "", database_url=url)
            with pytest.raises(KeyError, match=name):
                credit_groups.update_credit_group("guests", new_name=name, database_url=url)
        credit_groups.update_credit_group("staff", new_name="Staff", database_url=url)
        assert credit_groups.get_credit_group("STAFF", database_url=url)["name"] == "Staff"

    @pytest.mark.parametrize("allowance", [-1, 2**31])
    def test_allowances_are_checked(self, url: str, allowance: int) -> None:
        with pytest.raises(ValueError, match=str(allowance)):
            credit_groups.create_credit_group("staff", allowance, "", database_url=url)
        with pytest.raises(ValueError, match=str(allowance)):
            credit_groups.upsert_credit_group("staff", allowance, "", database_url=url)
        credit_groups.create_credit_group("staff", 0, "", database_url=url)
        with pytest.raises(ValueError, match=str(allowance)):
            credit_groups.update_credit_group("staff", allowance, database_url=url)

    def test_members(self, url: str) -> None:
        credit_groups.create_credit_group("staff", 2000, "Who works here", database_url=url)
        credit_groups.create_credit_group("guests", 10, "", database_url=url)
        for user in ("ann", "bob", "ann"):
            credit_groups.add_user(user, "staff", database_url=url)
        credit_groups.add_user("ann", "guests", database_url=url)
        staff = credit_groups.get_credit_group("staff", database_url=url)
        guests = credit_groups.get_credit_group("guests", database_url=url)
        ann, bob = sorted(credit_groups.list_users("staff", database_url=url), key=lambda user: user["id"])
        assert sorted(ann.pop("credit_groups"), key=lambda group: group["name"]) == [guests, staff]
        assert ann == {"id": "ann", "name": "Ann", "email": "ann@example.org"}
        assert bob == {"id": "bob", "name": "Bob", "email": "bob@example.org", "credit_groups": [staff]}
        counts = {group["name"]: group["user_count"] for group in credit_groups.list_credit_groups(url)}
        assert counts == {"staff": 2, "guests": 1}
        credit_groups.remove_user("ann", "staff", database_url=url)
        assert [user["id"] for user in credit_groups.list_users("staff", database_url=url)] == ["bob"]
        with pytest.raises(ValueError, match="ann"):
            credit_groups.remove_user("ann", "staff", database_url=url)
        with pytest.raises(ValueError, match="staff"):
            credit_groups.delete_credit_group("staff", database_url=url)
        credit_groups.delete_credit_group("staff", database_url=url, force=True)
        assert rows(url, "SELECT user_id FROM token_tracking_credit_group_user") == [("ann",)]

    def test_what_is_not_there(self, url: str) -> None:
        credit_groups.create_credit_group("staff", 1, "", database_url=url)
        for missing in (
            lambda: credit_groups.get_credit_group("nobody", database_url=url),
            lambda: credit_groups.update_credit_group("nobody", 1, database_url=url),
            lambda: credit_groups.delete_credit_group("nobody", database_url=url),
            lambda: credit_groups.add_user("ann", "nobody", database_url=url),
            lambda: credit_groups.add_user("nobody", "staff", database_url=url),
            lambda: credit_groups.remove_user("ann", "nobody", database_url=url),
            lambda: credit_groups.remove_user("nobody", "staff", database_url=url),
            lambda: credit_groups.list_users("nobody", database_url=url),
        ):
            with pytest.raises(KeyError, match="nobody"):
                missing()
        with pytest.raises(ValueError, match="nothing"):
            credit_groups.update_credit_group("staff", database_url=url)


class TestPrices:
    def test_are_added_all_or_none(self, url: str) -> None:
        add_price(url)
        several = [ModelPricingSchema(**price(id=model)) for model in ("new", "gpt-test")]
        with pytest.raises(ValueError, match="(?i)gpt-test"):
            model_pricing.add_model_pricing(url, several)
        assert model_pricing.list_model_pricing(url) == [price()]

    def test_are_found_by_model_and_provider(self, url: str) -> None:
        every = [price(), price(provider="azure"), price(id="other")]
        model_pricing.add_model_pricing(url, [ModelPricingSchema(**one) for one in every])

        def found(**which: str) -> list[tuple[str, str]]:
            return sorted((one["provider"], one["id"]) for one in model_pricing.get_model_pricing(url, **which))

        assert found() == [("azure", "gpt-test"), ("openai", "gpt-test"), ("openai", "other")]
        assert found(model_id="gpt-test") == [("azure", "gpt-test"), ("openai", "gpt-test")]
        assert found(provider="OpenAI") == [("openai", "gpt-test"), ("openai", "other")]
        assert found(model_id="gpt-test", provider="azure") == [("azure", "gpt-test")]
        assert found(model_id="none") == []
        assert model_pricing.list_model_pricing(url, "azure") == [price(provider="azure")]

    def test_an_update_changes_what_it_names(self, url: str) -> None:
        add_price(url)
        change = model_pricing.update_model_pricing
        assert change(url, "gpt-test", "openai", {"output_cost_credits": 9, "id": "stays", "colour": "red"}) is True
        assert model_pricing.list_model_pricing(url) == [price(output_cost_credits=9)]
        assert change(url, "gpt-test", "openai", {"id": "stays"}) is False
        assert change(url, "none", "openai", {"name": "None"}) is False
        assert change(url, "gpt-test", "azure", {"name": "None"}) is False
        for wrong in ({"input_cost_credits": -1}, {"per_input_tokens": 0}):
            with pytest.raises(ValueError, match="gpt-test"):
                change(url, "gpt-test", "openai", wrong)

    def test_an_upsert_adds_or_replaces(self, url: str) -> None:
        new = price()
        new["model_id"] = new.pop("id")
        assert model_pricing.upsert_model_pricing(url, **new) is True
        assert model_pricing.upsert_model_pricing(url, **{**new, "name": "Renamed"}) is True
        assert model_pricing.list_model_pricing(url) == [price(name="Renamed")]

    def test_are_exact_below_one_credit(self, url: str) -> None:
        tiny = Decimal("0.000001")
        add_price(url, input_cost_credits=tiny, output_cost_credits=Decimal("2.50"))
        found = model_pricing.get_model_pricing(url, "gpt-test")[0]
        assert (found["input_cost_credits"], found["output_cost_credits"]) == (tiny, Decimal("2.5"))
        model_pricing.update_model_pricing(url, "gpt-test", "openai", {"input_cost_credits": 0.000002})
        assert model_pricing.get_model_pricing(url, "gpt-test")[0]["input_cost_credits"] == 2 * tiny
        model_pricing.update_model_pricing(url, "gpt-test", "openai", {"output_cost_credits": Decimal("3.0")})
        whole = model_pricing.get_model_pricing(url, "gpt-test")[0]["output_cost_credits"]
        assert whole == 3 and isinstance(whole, int)
        ModelPricingSchema(**found)

    def test_a_change_counts_at_once(self, url: str) -> None:
        tracker = TokenTracker(url)
        with pytest.raises(RuntimeError, match="gpt-test"):
            tracker.is_paid("gpt-test")
        add_price(url)
        assert tracker.is_paid("gpt-test") is True
        model_pricing.update_model_pricing(
            url, "gpt-test", "openai", {"input_cost_credits": 0, "output_cost_credits": 0}
        )
        assert tracker.is_paid("gpt-test") is False

    def test_are_deleted(self, url: str) -> None:
        for provider in ("openai", "azure"):
            add_price(url, provider=provider)
        delete = model_pricing.delete_model_pricing
        assert delete(url, "gpt-test", "mistral") is False
        assert delete(url, "gpt-test", "azure") is True
        assert model_pricing.list_model_pricing(url) == [price()]
        sponsored.create_sponsored_allowance(url, "ann", "course", ["gpt-test"], 1000, 20)
        with pytest.raises(ValueError, match="course"):
            delete(url, "gpt-test")
        sponsored.delete_sponsored_allowance(url, name="course")
        assert delete(url, "gpt-test") is True
        assert delete(url, "gpt-test") is False


class TestSettings:
    LOOK = "SELECT setting_key, setting_value, description FROM token_tracking_base_settings ORDER BY 1"

    def test_to_begin_with(self, url: str) -> None:
        settings.init_base_settings(url)
        [(key, value, description)] = rows(url, self.LOOK)
        assert (key, value) == ("base_credit_allowance", "1000") and description

    def test_are_written_over(self, url: str) -> None:
        settings.init_base_settings(url)
        new = {"setting_key": "base_credit_allowance", "setting_value": "12.5", "description": "Less"}
        own = {"setting_key": "colour_of_our_tracker", "setting_value": "blue", "description": "Ours"}
        settings.init_base_settings(url, [new, own])
        assert rows(url, self.LOOK) == [tuple(new.values()), tuple(own.values())]
        settings.init_base_settings(url, [{"setting_key": "base_credit_allowance", "setting_value": "13"}])
        assert rows(url, self.LOOK)[0] == ("base_credit_allowance", "13", "Less")

    def test_are_checked_all_or_none(self, url: str) -> None:
        good = {"setting_key": "hold_wait", "setting_value": "5"}
        for wrong, error in (
            ({"setting_key": "base_credit_allowance", "setting_value": "lots"}, ValueError),
            ({"setting_key": "timezone", "setting_value": "Mars/Olympus"}, ValueError),
            ({"setting_key": "timezone"}, ValueError),
            ({"key": "timezone", "setting_key": "a", "setting_value": "b"}, TypeError),
        ):
            with pytest.raises(error):
                settings.init_base_settings(url, [good, wrong])
        assert rows(url, self.LOOK) == []


class TestSponsored:
    def allowance(self, url: str, **changes: Any) -> None:
        usual = {
            "sponsor_id": "AI department",
            "name": "course",
            "models": ["gpt-test"],
            "total_credit_limit": 1000,
            "daily_credit_limit": 20,
        }
        sponsored.create_sponsored_allowance(url, **{**usual, **changes})

    def test_one_is_made_changed_and_deleted(self, url: str) -> None:
        add_price(url)
        add_price(url, id="other")
        self.allowance(url)
        found = sponsored.get_sponsored_allowance(url, name="course")
        models = found.pop("base_models")
        assert [(one.sponsored_allowance_id, one.base_model_id) for one in models] == [(UUID(found["id"]), "gpt-test")]
        assert {**found, "id": None} == {
            "id": None,
            "name": "course",
            "sponsor_id": "AI department",
            "total_credit_limit": 1000,
            "daily_credit_limit": 20,
        }
        sponsored.update_sponsored_allowance(url, name="course", models=("other",), daily_credit_limit=30)
        sponsored.update_sponsored_allowance(url, allowance_id=found["id"], new_name="lecture", sponsor_id="ann")
        changed = sponsored.get_sponsored_allowance(url, id=found["id"])
        assert [one.base_model_id for one in changed.pop("base_models")] == ["other"]
        assert changed == {**found, "name": "lecture", "sponsor_id": "ann", "daily_credit_limit": 30}
        sponsored.delete_sponsored_allowance(url, allowance_id=found["id"])
        assert sponsored.get_sponsored_allowances(url) == []
        assert rows(url, "SELECT base_model_id FROM token_tracking_sponsored_allowance_base_models") == []

    def test_without_a_daily_limit(self, url: str) -> None:
        add_price(url)
        self.allowance(url, daily_credit_limit=None)
        assert sponsored.get_sponsored_allowance(url, "course")["daily_credit_limit"] is None

    def test_are_listed_by_name_and_sponsor(self, url: str) -> None:
        add_price(url)
        for name, sponsor in (("c", "ann"), ("a", "bob"), ("b", "ann")):
            self.allowance(url, name=name, sponsor_id=sponsor)

        def names(**which: str) -> list[str]:
            return [one["name"] for one in sponsored.get_sponsored_allowances(url, **which)]

        assert names() == ["a", "b", "c"]
        assert names(sponsor_id="ann") == ["b", "c"]
        assert names(sponsor_id="nobody") == []

    def test_are_checked(self, url: str) -> None:
        add_price(url)
        self.allowance(url)
        for wrong in (
            {"name": "course"},
            {"name": "new", "models": ["unpriced"]},
            {"name": "new", "total_credit_limit": -1},
            {"name": "new", "daily_credit_limit": -1},
            {"name": ""},
        ):
            with pytest.raises(ValueError, match="."):
                self.allowance(url, **wrong)
        with pytest.raises(ValueError, match="unpriced"):
            sponsored.update_sponsored_allowance(url, name="course", models=["unpriced"])
        assert [one["name"] for one in sponsored.get_sponsored_allowances(url)] == ["course"]

    def test_what_is_not_there(self, url: str) -> None:
        nobody = str(UUID(int=0xA1B2C3))
        for which in ({"name": "nobody"}, {"id": nobody}):
            with pytest.raises(KeyError, match=next(iter(which.values()))):
                sponsored.get_sponsored_allowance(url, **which)
        for which in ({"name": "nobody"}, {"allowance_id": nobody}, {}):
            with pytest.raises(ValueError, match="."):
                sponsored.update_sponsored_allowance(url, **which, total_credit_limit=1)
            with pytest.raises(ValueError, match="."):
                sponsored.delete_sponsored_allowance(url, **which)
        with pytest.raises(ValueError, match="name"):
            sponsored.get_sponsored_allowance(url)


class TestUsers:
    def test_are_found_by_all_that_is_given(self, url: str) -> None:
        def found(**which: str) -> str | None:
            user = find_user(url, **which)
            return user.id if user else None

        assert found(user_id="ann") == "ann"
        assert found(name="Ann") == "ann"
        assert found(email="ann@example.org") == "ann"
        assert found(name="Bob") == "bob"
        assert found(name="Bob", email="cid@example.org") == "cid"
        assert found(name="Ann", email="bob@example.org") is None
        assert found(name="ann") is None
        assert found(user_id="nobody") is None
        assert found() is None

    def test_with_their_groups(self, url: str) -> None:
        credit_groups.create_credit_group("staff", 2000, "Who works here", database_url=url)
        credit_groups.add_user("ann", "staff", database_url=url)
        ann = find_user(url, user_id="ann")
        assert ann is not None
        assert serialize_user(ann) == {
            "id": "ann",
            "name": "Ann",
            "email": "ann@example.org",
            "credit_groups": [credit_groups.get_credit_group("staff", database_url=url)],
        }
        [membership] = ann.credit_groups
        assert (membership.user_id, membership.credit_group_id) == ("ann", membership.credit_group.id)
