"""Networks that a module's tests share."""

import pytest

from tests.influence.nets import conv_net, features, linear_net


@pytest.fixture(scope="module")
def conv():
    return conv_net()


@pytest.fixture(scope="module")
def linear():
    return linear_net(*features(60))
