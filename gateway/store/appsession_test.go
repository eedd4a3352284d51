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
			if cookie, err = f.BeginAppSession(t.Context(), AppLanding{Session: want, UserAgent: firefoxUA, Life: 2 * time.Hour, Idle: time.Hour}); err != nil || len(cookie) != 40 {
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
			if ok1 || ok2 || err1 != nil || err2 != nil {
				t.Error(ok1, ok2, err1, err2)
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
		next, err := f.BeginAppSession(t.Context(), AppLanding{Session: want, UserAgent: firefoxUA, Life: 2 * time.Hour, Idle: time.Hour, Former: cookie})
		if err != nil || next == cookie {
			t.Fatal(next, err)
		}
		for name, over := range map[string]string{"one that was replaced": cookie, "one that was ended": next} {
			if over == next {
				v, ok, err := f.VisitOf(t.Context(), next)
				if err := errors.Join(err, f.EndVisit(t.Context(), v)); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			_, ok, err := f.AppSession(t.Context(), over, time.Hour)
			kept, keepErr := f.KeepAppSession(t.Context(), over, time.Hour)
			if ok || kept || err != nil || keepErr != nil {
				t.Errorf("%s: %v, %v, %v, %v", name, ok, kept, err, keepErr)
			}
		}
		want.User.Description = strings.Repeat("x", maxGrant)
		if _, err := f.BeginAppSession(t.Context(), AppLanding{Session: want, UserAgent: firefoxUA, Life: time.Hour, Idle: time.Hour}); err == nil {
			t.Error("a session without bounds is remembered")
		}
	})
}

func TestASessionAtAnApplicationEndsWhenNothingIsAskedFor(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		cookie, err := f.BeginAppSession(t.Context(), AppLanding{Session: AppSession{Username: "ada", Home: peer}, UserAgent: firefoxUA, Life: time.Hour, Idle: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		left := func() time.Duration {
			t.Helper()
			d, err := f.r.client.PTTL(t.Context(), f.appKey(hash(cookie))).Result()
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
	_, err1 := f.BeginAppSession(t.Context(), AppLanding{Session: AppSession{Username: "ada", Home: peer}, UserAgent: firefoxUA, Life: time.Hour, Idle: time.Hour})
	_, _, err2 := f.AppSession(t.Context(), random(40), time.Hour)
	_, err3 := f.KeepAppSession(t.Context(), random(40), time.Hour)
	for i, err := range []error{err1, err2, err3, f.EndVisit(t.Context(), Visit{Hash: "x"})} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// begins begins a session at an application that lasts for two hours, or for one in
// which it is not used.
func (f fixture) begins(t *testing.T, home gateway.Wwwroot, username, userAgent, former string) (cookie string) {
	t.Helper()
	cookie, err := f.BeginAppSession(t.Context(), AppLanding{
		Session:   AppSession{Home: home, Username: username, User: gateway.User{Username: username + "@home"}},
		UserAgent: userAgent, Life: 2 * time.Hour, Idle: time.Hour, Former: former,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}

// lasts reports whether there is a session, and a visit with it.
func (f fixture) lasts(t *testing.T, cookie string) bool {
	t.Helper()
	_, ok, err := f.VisitOf(t.Context(), cookie)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := f.KeepAppSession(t.Context(), cookie, time.Hour)
	if err != nil || kept != ok {
		t.Fatalf("a session %t, a visit %t, %v", kept, ok, err)
	}
	return kept
}

func TestASessionAtAnApplicationIsAVisit(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		one := f.begins(t, someHome, "ada", firefoxUA, "")
		two := f.begins(t, someHome, "ada", chromeUA, "")
		others := []string{f.begins(t, otherHome, "ada", firefoxUA, ""), f.begins(t, someHome, "bob", firefoxUA, "")}
		v, ok, err := f.VisitOf(ctx, one)
		want := Visit{Home: someHome, Username: "ada", Account: "ada@home", UserAgent: firefoxUA, Hash: HomeHash(one), Started: v.Started, Expires: v.Expires}
		if left := v.Expires.Sub(f.clock.now()); !ok || err != nil || v != want || left <= 59*time.Minute || left > time.Hour {
			t.Errorf("%+v, %t, %v", v, ok, err)
		}
		all, err := f.Visits(ctx, someHome, "ada", "")
		wantSealed(t, all, err, "", "")
		f.wantTrips(t, 1, func() { all, _, err = f.CallOff(ctx, someHome, "ada", firefoxUA) })
		if len(all) != 1 || err != nil || all[0].Hash != v.Hash {
			t.Fatalf("%+v, %v", all, err)
		}
		f.wantTrips(t, 1, func() {
			if err := f.EndVisit(ctx, all[0]); err != nil {
				t.Error(err)
			}
		})
		if f.lasts(t, one) || !f.lasts(t, two) || !f.lasts(t, others[0]) || !f.lasts(t, others[1]) {
			t.Error("it is not this session that ends, and no other")
		}
		// Another learner in the same browser takes its place, everywhere.
		var next string
		f.wantTrips(t, 1, func() { next = f.begins(t, otherHome, "carol", chromeUA, two) })
		if all, err := f.Visits(ctx, someHome, "ada", ""); f.lasts(t, two) || !f.lasts(t, next) || len(all) != 0 || err != nil {
			t.Errorf("the former one lasts: %+v, %v", all, err)
		}
	})
}

func TestAVisitAtAnApplicationEndsWithItsSession(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		cookie := f.begins(t, someHome, "ada", firefoxUA, "")
		f.clock.advance(90 * time.Minute)
		later := f.clock.now()
		if _, err := f.RenewVisits(ctx, []string{cookie}, visitLife); err != nil {
			t.Fatal(err)
		}
		if busy, err := f.Busy(ctx, later); len(busy[someHome]) != 1 || err != nil {
			t.Errorf("busy are %v, %v", busy, err)
		}
		// By Redis, where no time has passed, an hour is left; by us it is half of one.
		if v, ok, err := f.VisitOf(ctx, cookie); !ok || err != nil || v.Expires.Sub(v.Started) != 2*time.Hour {
			t.Errorf("%+v, %t, %v", v, ok, err)
		}
		if err := f.r.client.Del(ctx, f.appKey(hash(cookie))).Err(); err != nil { // as when its idle time is over
			t.Fatal(err)
		}
		all, held, err := f.CallOff(ctx, someHome, "ada", firefoxUA)
		if _, ok, err2 := f.VisitOf(ctx, cookie); ok || err2 != nil || len(all) != 0 || held || err != nil {
			t.Errorf("it goes on: %t, %v, %v, %v", ok, err2, all, err)
		}
	})
}

// TestNoSessionAtAnApplicationIsForgotten: what no logout at home would find must
// not go on.
func TestNoSessionAtAnApplicationIsForgotten(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		var cookies []string
		for range maxVisits + 2 {
			cookies = append(cookies, f.begins(t, someHome, "ada", firefoxUA, ""))
			f.clock.advance(time.Second)
		}
		for i, want := range []bool{false, false, true} {
			if f.lasts(t, cookies[i]) != want {
				t.Errorf("session %d lasts: %t", i, !want)
			}
		}
		for _, key := range []string{f.visitKey(hash(cookies[9])), f.key(kindVisits, visitor(someHome, "ada"))} {
			if ttl := f.r.client.PTTL(t.Context(), key).Val(); ttl <= 2*time.Hour-time.Minute {
				t.Errorf("%s ends in %s, before the session may", key, ttl)
			}
		}
	})
}

func TestWhoLogsOutAtHomeWhileTheyAreAskedHasNoSession(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		former := f.begins(t, otherHome, "bob", firefoxUA, "")
		if err := f.Await(ctx, someHome, "ada", firefoxUA); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.CallOff(ctx, someHome, "ada", firefoxUA); err != nil {
			t.Fatal(err)
		}
		l := AppLanding{Session: AppSession{Home: someHome, Username: "ada"}, UserAgent: firefoxUA, Life: time.Hour, Idle: time.Hour, Former: former, Awaited: true}
		if cookie, err := f.BeginAppSession(ctx, l); !errors.Is(err, ErrLoggedOut) || cookie != "" {
			t.Errorf("%q, %v", cookie, err)
		}
		if all, err := f.Visits(ctx, someHome, "ada", ""); len(all) != 0 || err != nil || !f.lasts(t, former) {
			t.Errorf("%v, %v", all, err)
		}
	})
}

// TestASessionAtAnApplicationThatWasToEndIsFoundWhenItIsUsed: the gateway that was to
// end it may be gone.
func TestASessionAtAnApplicationThatWasToEndIsFoundWhenItIsUsed(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		cookie := f.begins(t, someHome, "ada", firefoxUA, "")
		for range 2 {
			all, held, err := f.CallOff(ctx, someHome, "ada", firefoxUA)
			if len(all) != 1 || held || err != nil || all[0].Session != "" || all[0].Account == "" {
				t.Fatalf("%+v, %t, %v", all, held, err)
			}
		}
		off, err := f.RenewVisits(ctx, []string{cookie}, visitLife)
		if len(off) != 1 || err != nil || off[0].Session != "" {
			t.Fatalf("%+v, %v", off, err)
		}
		if err := f.EndVisit(ctx, off[0]); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := f.AppSession(ctx, cookie, time.Hour); ok || err != nil {
			t.Errorf("%t, %v", ok, err)
		}
	})
}
