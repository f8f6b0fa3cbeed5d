"""Django's users and groups in the admin."""

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from nexusadmin.accounts.admin.group import GroupAdmin
from nexusadmin.accounts.admin.user import UserAdmin

for model, model_admin in ((get_user_model(), UserAdmin), (Group, GroupAdmin)):
    if admin.site.is_registered(model):
        admin.site.unregister(model)
    admin.site.register(model, model_admin)
