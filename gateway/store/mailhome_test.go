package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func TestFromWhichHomesSomebodyHasCome(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		other, err := gateway.ParseWwwroot("https://other.test")
		if err != nil {
			t.Fatal(err)
		}
		homes := func(names ...string) (found []string) {
			t.Helper()
			f.wantTrips(t, 1, func() {
				var err error
				if found, err = f.MailHomes(t.Context(), names); err != nil {
					t.Error(err)
				}
			})
			return found
		}
		learn := func(name string, home gateway.Wwwroot) {
			t.Helper()
			f.wantTrips(t, 1, func() {
				if err := f.LearnMailHome(t.Context(), name, home); err != nil {
					t.Error(err)
				}
			})
		}
		want := func(when string, got []string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		want("nobody", homes("ADA"))
		learn("ADA", peer)
		want("one", homes("ADA", "BOB"), peer.String())
		want("another", homes("BOB"))
		f.clock.advance(200 * 24 * time.Hour)
		learn("ADA", other)
		want("two, the latest first", homes("ADA"), other.String(), peer.String())
		f.clock.advance(201 * 24 * time.Hour)
		want("the first is long ago", homes("ADA"), other.String())
		learn("ADA", other)
		f.clock.advance(399 * 24 * time.Hour)
		want("renewed", homes("ADA"), other.String())
		if n := f.r.client.ZCard(t.Context(), f.key(kindMail, "ADA")).Val(); n != 1 {
			t.Errorf("%d are kept", n)
		}
		if ttl := f.r.client.TTL(t.Context(), f.key(kindMail, "ADA")).Val(); ttl > mailHomeLife || ttl <= 0 {
			t.Errorf("kept for %s", ttl)
		}
		if _, err := f.MailHomes(t.Context(), make([]string, maxMailHomes+1)); err == nil {
			t.Error("too many names")
		}
		f.r.client.Close()
		if _, err := f.MailHomes(t.Context(), []string{"ADA"}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("without Redis: %v", err)
		}
		if err := f.LearnMailHome(t.Context(), "ADA", peer); !errors.Is(err, ErrUnavailable) {
			t.Errorf("without Redis: %v", err)
		}
	})
}
