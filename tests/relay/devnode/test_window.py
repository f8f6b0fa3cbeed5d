from unittest import TestCase

from relay.devnode.window import NodeReceiveWindow, NodeSendWindow


class SendWindowTests(TestCase):
    def test_no_limit_before_the_first_grant(self) -> None:
        window = NodeSendWindow()
        for _ in range(1000):
            window.take()
        self.assertFalse(window.exhausted)

    def test_the_first_grant_opens_a_window(self) -> None:
        window = NodeSendWindow()
        window.grant(2)
        window.take()
        self.assertFalse(window.exhausted)
        window.take()
        self.assertTrue(window.exhausted)
        window.grant(1)
        self.assertFalse(window.exhausted)

    def test_the_semaphore_loses_what_it_can_not_hold(self) -> None:
        window = NodeSendWindow()
        window.grant(8)
        window.grant(100)
        self.assertEqual((window.available, window.lost), (64, 44))

    def test_a_large_first_grant_makes_a_large_semaphore(self) -> None:
        window = NodeSendWindow()
        window.grant(100)
        window.grant(1)
        self.assertEqual((window.available, window.lost), (100, 1))


class ReceiveWindowTests(TestCase):
    def test_grants_come_in_batches(self) -> None:
        window = NodeReceiveWindow(64, 8)
        self.assertEqual([window.taken() for _ in range(16)], [0] * 7 + [8] + [0] * 7 + [8])
        self.assertEqual(window.allowance, 80)

    def test_over_sending_shows(self) -> None:
        window = NodeReceiveWindow(2, 8)
        self.assertEqual([window.arrived() for _ in range(3)], [True, True, False])
