package store

import (
	"testing"
	"time"
)

func TestWhichPictureWasTakenIsKnownFromLandingToLanding(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		taken := func(account string) TakenPicture {
			t.Helper()
			p, err := f.TakenPicture(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if p := taken("ada@home.test"); p != (TakenPicture{}) {
			t.Errorf("before any: %+v", p)
		}
		for _, p := range []TakenPicture{{"https://home.test 1 2", "ab"}, {"https://home.test 3", ""}, {"", ""}} {
			if err := f.TakePicture(t.Context(), "ada@home.test", p); err != nil {
				t.Fatal(err)
			}
			if got := taken("ada@home.test"); got != p {
				t.Errorf("%+v became %+v", p, got)
			}
		}
		if p := taken("bob@home.test"); p != (TakenPicture{}) {
			t.Errorf("of another account: %+v", p)
		}
		key := f.key(kindTaken, "ada@home.test")
		f.r.client.Expire(t.Context(), key, time.Hour)
		taken("ada@home.test")
		if ttl := f.r.client.PTTL(t.Context(), key).Val(); ttl > takenLife || ttl < takenLife-time.Minute {
			t.Errorf("after a landing it is kept for %s", ttl)
		}
	})
}
