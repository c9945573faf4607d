import logging
import os
from urllib.parse import quote

import httpx
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

log = logging.getLogger(__name__)
chargly = httpx.Client(
    base_url=os.environ["CHARGLY_URL"],
    headers={"Authorization": f"Bearer {os.environ['CHARGLY_API_KEY']}"},
    timeout=5,
)


def signed_in(request: HttpRequest) -> str | None:
    """Yours: the id of whoever is signed in, by your own session, and never by what the browser sends."""
    return str(request.user.pk) if request.user.is_authenticated else None


@require_GET
@never_cache
def chargly_token(request: HttpRequest) -> JsonResponse:
    customer = signed_in(request)
    if customer is None:
        return JsonResponse({"error": "Sign in first."}, status=401)
    try:
        made = chargly.post(f"/v1/wallets/{quote(customer, safe='')}/tokens")
        made.raise_for_status()
    except httpx.HTTPError:
        log.exception("Chargly made no token")
        return JsonResponse({"error": "Credits are away for a moment."}, status=502)
    return JsonResponse({"token": made.json()["token"]})


urlpatterns = [path("chargly-token", chargly_token)]
