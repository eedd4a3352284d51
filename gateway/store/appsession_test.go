package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
)

func TestASessionAtAnApplicationLastsForItsTime(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		home, err := gateway.ParseWwwroot("https://home.example")
		if err != nil {
			t.Fatal(err)
		}
		want := AppSession{Home: home, Username: "ada", User: grant().User}
		var cookie string
		f.wantTrips(t, 1, func() {
			if cookie, err = f.BeginAppSession(t.Context(), want, 2*time.Hour, time.Hour, ""); err != nil || len(cookie) != 40 {
				t.Fatal(cookie, err)
			}
		})
		f.wantTrips(t, 1, func() {
			got, ok, err := f.AppSession(t.Context(), cookie, time.Hour)
			want.Expires = got.Expires
			if got != want || !ok || err != nil {
				t.Errorf("%v, %v, %+v", ok, err, got)
			}
		})
		f.wantTrips(t, 1, func() {
			if ok, err := f.KeepAppSession(t.Context(), cookie, time.Hour); !ok || err != nil {
				t.Error(ok, err)
			}
		})
		if got, ok, err := f.again().AppSession(t.Context(), cookie, time.Hour); !ok || err != nil || got.Username != "ada" {
			t.Errorf("at another gateway: %+v, %v, %v", got, ok, err)
		}
		for _, key := range f.keys(t) {
			if strings.Contains(key, cookie) {
				t.Errorf("the cookie is in Redis: %s", key)
			}
		}
		f.wantTrips(t, 0, func() {
			_, ok1, err1 := f.AppSession(t.Context(), "*", time.Hour)
			ok2, err2 := f.KeepAppSession(t.Context(), "", time.Hour)
			if err := f.EndAppSession(t.Context(), "?"); ok1 || ok2 || err1 != nil || err2 != nil || err != nil {
				t.Error(ok1, ok2, err1, err2, err)
			}
		})
		if _, ok, err := f.AppSession(t.Context(), random(40), time.Hour); ok || err != nil {
			t.Errorf("a cookie that nobody has: %v, %v", ok, err)
		}
		f.clock.advance(2 * time.Hour)
		if _, ok, err := f.AppSession(t.Context(), cookie, time.Hour); ok || err != nil {
			t.Errorf("when its life is over, with requests in between: %v, %v", ok, err)
		}
		f.clock.advance(-2 * time.Hour)
		next, err := f.BeginAppSession(t.Context(), want, 2*time.Hour, time.Hour, cookie)
		if err != nil || next == cookie {
			t.Fatal(next, err)
		}
		for name, over := range map[string]string{"one that was replaced": cookie, "one that was ended": next} {
			if over == next {
				if err := f.EndAppSession(t.Context(), next); err != nil {
					t.Fatal(err)
				}
			}
			_, ok, err := f.AppSession(t.Context(), over, time.Hour)
			kept, keepErr := f.KeepAppSession(t.Context(), over, time.Hour)
			if ok || kept || err != nil || keepErr != nil {
				t.Errorf("%s: %v, %v, %v, %v", name, ok, kept, err, keepErr)
			}
		}
		want.User.Description = strings.Repeat("x", maxGrant)
		if _, err := f.BeginAppSession(t.Context(), want, time.Hour, time.Hour, ""); err == nil {
			t.Error("a session without bounds is remembered")
		}
	})
}

func TestASessionAtAnApplicationEndsWhenNothingIsAskedFor(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		cookie, err := f.BeginAppSession(t.Context(), AppSession{Username: "ada", Home: peer}, time.Hour, time.Hour, "")
		if err != nil {
			t.Fatal(err)
		}
		left := func() time.Duration {
			t.Helper()
			d, err := f.r.client.PTTL(t.Context(), f.appKey(cookie)).Result()
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		if d := left(); d <= 50*time.Minute || d > time.Hour {
			t.Errorf("%s are left at the beginning", d)
		}
		if _, ok, err := f.AppSession(t.Context(), cookie, 10*time.Minute); !ok || err != nil || left() > 10*time.Minute {
			t.Error(ok, err, left())
		}
		if ok, err := f.KeepAppSession(t.Context(), cookie, 20*time.Minute); !ok || err != nil || left() <= 10*time.Minute || left() > 20*time.Minute {
			t.Error(ok, err, left())
		}
	})
}

func TestSessionsAtApplicationsNeedRedis(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	f.r.Close()
	_, err1 := f.BeginAppSession(t.Context(), AppSession{}, time.Hour, time.Hour, "")
	_, _, err2 := f.AppSession(t.Context(), random(40), time.Hour)
	_, err3 := f.KeepAppSession(t.Context(), random(40), time.Hour)
	for i, err := range []error{err1, err2, err3, f.EndAppSession(t.Context(), random(40))} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%d: %v", i, err)
		}
	}
}
