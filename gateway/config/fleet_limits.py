"""What bounds a provisioned plan as a whole: the section `limits` as the planner's value."""

from gateway.config.findings import Findings, did_you_mean
from gateway.config.schema import LimitsSection
from planner.document import shown
from planner.errors import InvalidValue
from planner.model.pool import Pool
from planner.program.limits import Limits, Stock


def fleet_limits(section: LimitsSection, findings: Findings) -> Limits | None:
    """The limits of a section; `None` if they cannot be."""
    try:
        return Limits(
            stock=tuple(Stock(gpu=s.gpu, most=s.most, zone=s.zone) for s in section.stock),
            budget_usd_per_hour=section.budget_usd_per_hour,
            survive=section.survive,
            start_usd=section.start_usd,
            stop_usd=section.stop_usd,
            horizon_h=section.horizon_h,
        )
    except InvalidValue as error:
        findings.problem("limits", str(error))
        return None


def check_limits(
    limits: Limits, pools: tuple[Pool, ...], alternatives: tuple[Pool, ...], findings: Findings
) -> None:
    """Note stock of what no pool has, and bounds of pools that leave no room for each other."""
    known = {pool.gpu for pool in (*pools, *alternatives)}
    for index, stock in enumerate(limits.stock):
        if stock.gpu not in known:
            text = f"no pool has {shown(stock.gpu)}{did_you_mean(stock.gpu, known)}"
            findings.problem(f"limits.stock[{index}].gpu", text)
    try:
        limits.check(pools)
    except InvalidValue as error:
        findings.problem("limits", str(error))
