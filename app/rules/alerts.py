"""Low, depleted, recovered: what a wallet's operator is told of its balance, once for each crossing."""

from app.rules.change import Change
from app.rules.wallet import Alert


def watch(change: Change) -> None:
    """Tells of a balance that an operation took below the wallet's threshold, to nothing, or back.

    A wallet that is made below its threshold has not crossed it, and one is depleted only once it has had credits.
    What was told is not told again until it has recovered, which is above zero and not below the threshold.
    """
    wallet, balance = change.wallet, change.balance
    threshold = wallet.low_balance_threshold
    is_low = threshold is not None and balance < threshold
    if balance > 0 and not is_low:
        if wallet.alert is not None:
            _alert(change, None)
            change.tell("wallet.recovered", {"low_balance_threshold": threshold})
        return
    if is_low and wallet.alert is None and not change.was_low:
        _alert(change, "low")
        change.tell("wallet.low", {"low_balance_threshold": threshold})
    if balance <= 0 < change.balance_before and change.wallet.alert != "depleted":
        _alert(change, "depleted")
        change.tell("wallet.depleted", {"low_balance_threshold": threshold})


def _alert(change: Change, alert: Alert | None) -> None:
    change.set(alert=alert, alert_at=None if alert is None else change.now)
