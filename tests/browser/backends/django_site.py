"""The Django snippet in a project with Django's own users, on the socket that is handed down as a file descriptor."""

import os
import socket
import sys

import django
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "users.db"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ["SESSION_SECRET"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup()
call_command("migrate", verbosity=0)

from django.contrib.auth import login  # noqa: E402 - its models need the settings
from django.contrib.auth.models import User  # noqa: E402


def sign_in(request: HttpRequest) -> HttpResponse:
    customer = request.GET["customer"]
    login(request, User.objects.create_user(customer, id=customer))
    return HttpResponse(status=204)


urlpatterns = [path("sign-in", sign_in), path("", include("django_urls"))]

config = uvicorn.Config(get_asgi_application(), lifespan="off", log_level="warning")
uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
