"""Who is asking: an API key with its scope, or a browser's widget token for one wallet."""

import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import jwt
import msgspec

from app.config import API_KEY_CHARACTERS_MAX, Config
from app.errors import ForbiddenScope, InvalidKey, InvalidToken, MissingKey, TokenExpired
from app.store.db import Database
from app.store.keys import Scope, find_key, key_hash

TokenScope = Literal["read", "top_up"]
TOKEN_SCOPES: Final[tuple[TokenScope, ...]] = ("read", "top_up")
_ALGORITHM: Final = "HS256"


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A key with its `scope` and `name`, or a token on one wallet until `expires_at`, in seconds since 1970."""

    name: str
    scope: Scope | None = None
    customer_id: str | None = None
    token_scopes: Sequence[str] = ()
    expires_at: int = 0


class Access(msgspec.Struct, frozen=True):
    """What a route takes: keys of that scope (an admin key always), tokens of that scope; neither: anybody.

    `also` is a further scope of keys that may.
    """

    key: Scope | None = None
    token: TokenScope | None = None
    also: Scope | None = None

    @property
    def public(self) -> bool:
        """Whether no credential is asked for."""
        return self.key is None and self.token is None

    def check(self, credential: Credential) -> None:
        """Lets the credential pass.

        Raises:
            ForbiddenScope: it is good, but not for this route.

        """
        if credential.customer_id is not None:
            if self.token is None or self.token not in credential.token_scopes:
                key = f"A widget token may not do this: it takes a key with the scope {self.key!r}."
                raise ForbiddenScope(f"A widget token needs the scope {self.token!r} here." if self.token else key)
        elif credential.scope not in ("admin", self.key, self.also):
            raise ForbiddenScope(f"This needs a key with the scope {self.key!r}.")


class Authenticator:
    """Knows keys and tokens. A key is remembered for a few seconds, so that a revoked one ends everywhere by then."""

    def __init__(self, db: Database, config: Config, token_secret: str) -> None:
        self._db = db
        self._limits = config.limits
        self._secret = token_secret
        self._given = key_hash(config.api_key) if config.api_key else None
        self._known: OrderedDict[str, tuple[Credential, float]] = OrderedDict()

    async def authenticate(self, headers: Mapping[bytes, bytes]) -> Credential:
        """The credential of a request.

        Raises:
            MissingKey, InvalidKey, InvalidToken, TokenExpired: there is none, or none that is good.

        """
        presented = _presented(headers)
        if presented.startswith("sk_"):
            return await self.by_key(presented)
        if presented.count(".") == 2:
            return self.by_token(presented)
        raise InvalidKey

    async def by_key(self, secret: str) -> Credential:
        """The credential of a key.

        Raises:
            InvalidKey: it is unknown or revoked.

        """
        if len(secret) > API_KEY_CHARACTERS_MAX:
            raise InvalidKey
        hashed = key_hash(secret)
        now = time.monotonic()
        remembered = self._known
        if (known := remembered.get(hashed)) is not None and known[1] > now:
            return known[0]
        credential = await self._look_up(hashed)
        # Where keys were forgotten meanwhile, it goes to what nobody looks at: it may have been read before.
        remembered[hashed] = (credential, now + self._limits.key_cache_seconds_max)
        if len(remembered) > self._limits.key_cache_entries_max:
            remembered.popitem(last=False)
        return credential

    async def _look_up(self, hashed: str) -> Credential:
        if self._given is not None and hmac.compare_digest(hashed, self._given):
            return Credential(name="CHARGLY_API_KEY", scope="admin")
        key = await find_key(self._db, hashed)
        if key is None or key.revoked_at is not None:
            self._known.pop(hashed, None)
            raise InvalidKey
        return Credential(name=key.name, scope=key.scope)

    def forget_keys(self) -> None:
        """Looks every key up again: one of them was revoked."""
        self._known = OrderedDict()

    def by_token(self, token: str) -> Credential:
        """The credential of a widget token: a JWT in HS256 with `sub`, `exp` (a day ahead at most) and `scopes`.

        Raises:
            InvalidToken, TokenExpired: it is not good.

        """
        try:
            claims = jwt.decode(token, self._secret, algorithms=[_ALGORITHM], options={"require": ["sub", "exp"]})
            scopes = claims.get("scopes")
            exp = int(claims["exp"])
        except jwt.ExpiredSignatureError as error:
            raise TokenExpired from error
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidToken from error
        too_far = exp > time.time() + self._limits.token_seconds_max + self._limits.token_clock_leeway_seconds
        if too_far or not isinstance(scopes, list) or not claims["sub"]:
            raise InvalidToken
        granted = tuple(scope for scope in TOKEN_SCOPES if scope in scopes)
        return Credential(name="token", customer_id=claims["sub"], token_scopes=granted, expires_at=exp)

    def mint(self, customer_id: str, scopes: Sequence[TokenScope], expires_in: int) -> tuple[str, int]:
        """A token for one wallet, and when it ends (seconds since 1970)."""
        exp = int(time.time()) + expires_in
        claims = {"sub": customer_id, "exp": exp, "scopes": list(scopes)}
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM), exp


def _presented(headers: Mapping[bytes, bytes]) -> str:
    if (key := headers.get(b"x-api-key")) is not None:
        return _text(key)
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not value.strip():
        raise MissingKey
    return _text(value)


def _text(value: bytes) -> str:
    try:
        text = value.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise InvalidKey from error
    if not text:
        raise MissingKey
    return text
