package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func TestALinkIsRevokedUntilItEnds(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		const id = "LINK"
		revoked := func(id string) (is bool) {
			t.Helper()
			f.wantTrips(t, 1, func() {
				var err error
				if is, err = f.LinkRevoked(t.Context(), id); err != nil {
					t.Error(err)
				}
			})
			return is
		}
		if revoked(id) {
			t.Error("before")
		}
		if err := f.RevokeLink(t.Context(), id, f.clock.now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if !revoked(id) || revoked("OTHER") {
			t.Error("not the one, or another one")
		}
		if ttl := f.r.client.PTTL(t.Context(), f.key(kindRevoked, hash(id))).Val(); ttl > time.Hour || ttl < 59*time.Minute {
			t.Errorf("kept for %s", ttl)
		}
		if err := f.RevokeLink(t.Context(), id, f.clock.now()); err == nil {
			t.Error("a link that has expired was revoked")
		}
		f.r.client.Close()
		if _, err := f.LinkRevoked(t.Context(), id); !errors.Is(err, ErrUnavailable) {
			t.Errorf("without Redis: %v", err)
		}
	})
}

func TestAJumpKeepsWhereItCameFrom(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		r := b.request()
		session := b.Open(r, cookieName)
		want := Jump{
			Peer: peer, Wantsurl: "/x", Origin: gateway.OriginCross,
			Signature: gateway.Signature{Rule: gateway.RuleOK, ID: `"<LINK>"`, Subject: "ada"},
		}
		planted, err := b.Plant(session, want)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.save(t, r, session); err != nil {
			t.Fatal(err)
		}
		found, ok, err := b.Find(t.Context(), Ref(session, planted))
		if diff := cmp.Diff(planted, found, cmp.Comparer(func(a, b gateway.Wwwroot) bool { return a == b })); diff != "" || !ok || err != nil {
			t.Errorf("%v, %v (-planted +found):\n%s", ok, err, diff)
		}
		if found.Origin != want.Origin || found.Signature != want.Signature {
			t.Errorf("%+v", found)
		}
	})
}
