"""Of whom most was shed lately: named for a minute, connected or not, and never too many."""

from basestore.intake.caller import Tenant
from basestore.intake.figures import NOTES
from basestore.intake.most_shed import KEPT, SHOWN, MostShed


def tenants(count: int, shed: int = 0) -> list[Tenant]:
    return [Tenant(f"10.0.0.{number}", shed=shed) for number in range(count)]


def test_the_first_few_are_named_with_what_was_counted_since_the_last_tick() -> None:
    most, asking = MostShed(), tenants(5)
    for number, tenant in enumerate(asking):
        tenant.shed = 10 * number
    assert most.of(asking) == (("10.0.0.4", 40), ("10.0.0.3", 30), ("10.0.0.2", 20))
    most.tick(asking, 1.0)
    assert not any(tenant.shed for tenant in asking)
    asking[1].shed = 100
    assert most.of(asking) == (("10.0.0.1", 110), ("10.0.0.4", 40), ("10.0.0.3", 30))
    assert len(most.of(asking)) == SHOWN


def test_nobody_is_named_of_whom_nothing_was_shed() -> None:
    most, asking = MostShed(), tenants(3)
    most.tick(asking, 1.0)
    assert most.of(asking) == ()


def test_who_has_gone_is_named_for_a_minute_and_no_longer() -> None:
    most, (gone,) = MostShed(), tenants(1, shed=7)
    most.collect(gone)
    for second in range(1, NOTES):
        most.tick([], float(second))
        assert most.of([]) == (("10.0.0.0", 7),)
    for second in range(NOTES, NOTES + 2):
        most.tick([], float(second))
    assert most.of([]) == ()
    assert most.known == 0


def test_however_many_come_and_go_so_many_are_remembered_those_of_whom_most_was_shed() -> None:
    most = MostShed()
    (flood,) = tenants(1, shed=1000)
    most.tick([flood], 0.0)
    for second in range(1, 5):
        crowd = [Tenant(f"{second} {number}", shed=1) for number in range(3 * KEPT)]
        for tenant in crowd[:KEPT] * 3:
            most.collect(tenant)
        for tenant in crowd:
            most.collect(tenant)
        assert most.known <= 2 * KEPT
        most.tick(tenants(3 * KEPT, shed=2), float(second))
        assert most.known <= KEPT
    assert most.of([])[0] == ("10.0.0.0", 1008)


def test_who_comes_anew_with_each_request_is_named_once_with_all() -> None:
    most = MostShed()
    for _ in range(5):
        most.collect(Tenant("10.0.0.9", shed=2))
    assert most.of([Tenant("10.0.0.9", shed=1)]) == (("10.0.0.9", 11),)
