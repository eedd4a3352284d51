package idp_test

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// redeem calls user_authorise as a peer that was authenticated.
func (h *home) redeem(t *testing.T, peer, token, userAgent string, nonce byte) (mnet.Value, error) {
	t.Helper()
	sum := sha1.Sum([]byte(userAgent))
	return h.Methods()[0].Call(t.Context(), &mnet.Call{
		Peer: h.Peers.Find(peer), Params: []mnet.Value{token, hex.EncodeToString(sum[:])}, Nonce: [32]byte{nonce},
	})
}

const firefox = "Mozilla/5.0 (test)"

func TestUserAuthorise(t *testing.T) {
	h := newHome(t, store.Limits{})
	h.redeem(t, "sp.test", "", firefox, 0) // Redis learns the script
	token, _ := landing(t, h.jump(browser{"MoodleSession": adas}, "/x"))
	before := h.trips.n.Load()
	got, err := h.redeem(t, "sp.test", token, firefox, 1)
	if err != nil {
		t.Fatal(err)
	}
	if trips := h.trips.n.Load() - before; trips != 1 {
		t.Errorf("a redemption cost %d round trips", trips)
	}
	want := mnet.Struct{
		{Name: "auth", Value: "mnet"}, {Name: "username", Value: "ada"}, {Name: "firstname", Value: "Ada"},
		{Name: "lastname", Value: "Lovelace"}, {Name: "email", Value: "ada@home.test"}, {Name: "city", Value: "London"},
		{Name: "wwwroot", Value: "https://home.test/moodle"}, {Name: "session.gc_maxlifetime", Value: "28800"},
		{Name: "myhosts", Value: mnet.Array{}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the user (-want +got):\n%s", diff)
	}
	sessions, err := h.state.PeerSessions(t.Context(), "ada")
	if err != nil || len(sessions) != 1 || sessions[0].Peer.String() != "https://sp.test" || sessions[0].Expires.Sub(sessions[0].Started) != 8*time.Hour {
		t.Errorf("sessions are %+v, %v", sessions, err)
	}
	if ended, err := h.state.EndHomeSession(t.Context(), h.state.Ending(adas)); len(ended) != 1 || err != nil {
		t.Errorf("with the session at home %d ended, %v", len(ended), err)
	}
}

func TestUserAuthoriseRefuses(t *testing.T) {
	tests := []struct {
		name   string
		redeem func(*testing.T, *home, string) error
		code   int
		reason string
	}{
		{"a token that never was", func(t *testing.T, h *home, _ string) error {
			_, err := h.redeem(t, "sp.test", "0000000000000000000000000000000000000000", firefox, 1)
			return err
		}, 1, "token-unknown"},
		{"a token redeemed before", func(t *testing.T, h *home, token string) error {
			if _, err := h.redeem(t, "sp.test", token, firefox, 1); err != nil {
				t.Fatal(err)
			}
			_, err := h.redeem(t, "sp.test", token, firefox, 2)
			return err
		}, 1, "token-unknown"},
		{"a token of 31 seconds ago", func(t *testing.T, h *home, token string) error {
			h.now = h.now.Add(31 * time.Second)
			_, err := h.redeem(t, "sp.test", token, firefox, 1)
			return err
		}, 2, "token-expired"},
		{"another peer", func(t *testing.T, h *home, token string) error {
			_, err := h.redeem(t, "mahara.test", token, firefox, 1)
			return err
		}, 1, "token-of-another-peer"},
		{"another browser", func(t *testing.T, h *home, token string) error {
			_, err := h.redeem(t, "sp.test", token, "curl", 1)
			return err
		}, 1, "token-of-another-browser"},
		{"the right peer after another one, which burnt it", func(t *testing.T, h *home, token string) error {
			if _, err := h.redeem(t, "mahara.test", token, firefox, 1); err == nil {
				t.Fatal("another peer got the user")
			}
			_, err := h.redeem(t, "sp.test", token, firefox, 2)
			return err
		}, 1, "token-unknown"},
		{"a token from a session that has ended", func(t *testing.T, h *home, token string) error {
			if _, err := h.state.EndHomeSession(t.Context(), h.state.Ending(adas)); err != nil {
				t.Fatal(err)
			}
			_, err := h.redeem(t, "sp.test", token, firefox, 1)
			return err
		}, 1, "token-after-logout"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHome(t, store.Limits{})
			token, _ := landing(t, h.jump(browser{"MoodleSession": adas}, "/x"))
			fault, ok := errors.AsType[*mnet.Fault](test.redeem(t, h, token))
			if !ok || fault.Code != test.code || fault.Reason != test.reason {
				t.Errorf("got %+v, want fault %d for %s", fault, test.code, test.reason)
			}
		})
	}
}

func TestAReplayedMessageIsNotATokenThatNeverWas(t *testing.T) {
	h := newHome(t, store.Limits{})
	token, _ := landing(t, h.jump(browser{"MoodleSession": adas}, "/x"))
	if _, err := h.redeem(t, "sp.test", token, firefox, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := h.redeem(t, "sp.test", token, firefox, 1); !errors.Is(err, mnet.ErrReplayed) {
		t.Errorf("got %v", err)
	}
}

func TestARedisThatIsDownIsNotATokenThatNeverWas(t *testing.T) {
	h := newHome(t, store.Limits{})
	h.redis.Close()
	_, err := h.redeem(t, "sp.test", "0000000000000000000000000000000000000000", firefox, 1)
	if _, fault := errors.AsType[*mnet.Fault](err); err == nil || fault {
		t.Errorf("got %v", err)
	}
}
