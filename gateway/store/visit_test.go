package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

const (
	visitLife = 8 * time.Hour
	firefoxUA = "b6589fc6ab0dc82cf12099d1c2d40ab994e8410c"
	chromeUA  = "356a192b7913b04c54574d18c28d46e6395428ab"
)

var (
	someHome  = mustWwwroot("https://home.example/m")
	otherHome = mustWwwroot("https://other.example")
)

func aVisit(home gateway.Wwwroot, username, userAgent, session string) Visit {
	return Visit{
		Home: home, Username: username, Account: strings.ReplaceAll(username, " ", "_") + "@home", UserID: 7, UserAgent: userAgent,
		Session: "sealed-" + session, Hash: HomeHash(session),
	}
}

// lands begins visits.
func (f fixture) lands(t *testing.T, visits ...Visit) {
	t.Helper()
	for _, v := range visits {
		if err := f.Land(t.Context(), v, visitLife, false); err != nil {
			t.Fatal(err)
		}
	}
}

// wantSealed compares the sessions of visits that a call returned.
func wantSealed(t *testing.T, all []Visit, err error, want ...string) {
	t.Helper()
	var got []string
	for _, v := range all {
		got = append(got, v.Session)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("(-want +got), %v\n%s", err, diff)
	}
}

func TestAVisitIsFoundByItsSessionAndByItsLearner(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx, v := t.Context(), aVisit(someHome, "ada lovelace", firefoxUA, "one")
		f.wantTrips(t, 1, func() { f.lands(t, v) })
		f.lands(t, aVisit(someHome, "ada lovelace", chromeUA, "two"), aVisit(otherHome, "ada lovelace", firefoxUA, "three"), aVisit(someHome, "ada", firefoxUA, "four"))
		f.wantTrips(t, 1, func() {
			got, ok, err := f.VisitOf(ctx, "one")
			if life := got.Expires.Sub(got.Started); !ok || err != nil || life != visitLife {
				t.Errorf("%+v, %t, %v", got, ok, err)
			}
			got.Started, got.Expires = time.Time{}, time.Time{}
			if diff := cmp.Diff(v, got, compareWwwroots); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
		if got, ok, err := f.VisitOf(ctx, "unknown"); ok || err != nil {
			t.Errorf("%+v, %t, %v", got, ok, err)
		}
		all, err := f.again().Visits(ctx, someHome, "ada lovelace", "")
		wantSealed(t, all, err, "sealed-one", "sealed-two")
		f.wantTrips(t, 1, func() {
			all, held, err := f.CallOff(ctx, someHome, "ada lovelace", firefoxUA)
			wantSealed(t, all, err, "sealed-one")
			if held {
				t.Error("it is held")
			}
		})
		for _, ask := range []struct {
			home         gateway.Wwwroot
			username, ua string
		}{{someHome, "bob", firefoxUA}, {someHome, "ada", chromeUA}, {someHome, "ada", ""}, {otherHome, "ada", firefoxUA}} {
			all, held, err := f.CallOff(ctx, ask.home, ask.username, ask.ua)
			if wantSealed(t, all, err); held {
				t.Error("one is held")
			}
		}
		f.wantTrips(t, 1, func() {
			if err := f.EndVisit(ctx, v); err != nil {
				t.Error(err)
			}
		})
		all, err = f.Visits(ctx, someHome, "ada lovelace", "")
		wantSealed(t, all, err, "sealed-two")
		if _, ok, err := f.VisitOf(ctx, "one"); ok || err != nil {
			t.Errorf("it is there: %t, %v", ok, err)
		}
	})
}

func TestAVisitEndsByItself(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		f.lands(t, aVisit(someHome, "ada", firefoxUA, "one"), aVisit(someHome, "ada", firefoxUA, "two"))
		for _, key := range []string{f.visitKey(HomeHash("one")), f.key(kindVisits, visitor(someHome, "ada"))} {
			if ttl := f.r.client.PTTL(ctx, key).Val(); ttl <= visitLife-time.Minute || ttl > visitLife {
				t.Errorf("%s ends in %s", key, ttl)
			}
		}
		f.clock.advance(visitLife - time.Minute)
		f.wantTrips(t, 1, func() {
			if off, err := f.RenewVisits(ctx, []string{"one", "nobodys"}, visitLife); len(off) != 0 || err != nil {
				t.Error(off, err)
			}
		})
		f.clock.advance(2 * time.Minute)
		all, err := f.Visits(ctx, someHome, "ada", firefoxUA)
		wantSealed(t, all, err, "sealed-one")
		if _, ok, err := f.VisitOf(ctx, "two"); ok || err != nil {
			t.Errorf("%t, %v", ok, err)
		}
		if _, err := f.RenewVisits(ctx, []string{"two"}, visitLife); err != nil {
			t.Error(err)
		}
		if _, ok, _ := f.VisitOf(ctx, "two"); ok {
			t.Error("what was over was renewed")
		}
		if v, _, _ := f.VisitOf(ctx, "one"); !v.Started.Before(v.Expires.Add(-visitLife)) {
			t.Errorf("began at %s", v.Started)
		}
	})
}

func TestALearnersVisitsAreBounded(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for i := range maxVisits + 2 {
			f.lands(t, aVisit(someHome, "ada", firefoxUA, fmt.Sprint("session", i)))
			f.clock.advance(time.Second)
		}
		all, err := f.Visits(t.Context(), someHome, "ada", "")
		if len(all) != maxVisits || err != nil {
			t.Errorf("%d visits, %v", len(all), err)
		}
		for i, want := range []bool{false, false, true} {
			if _, ok, _ := f.VisitOf(t.Context(), fmt.Sprint("session", i)); ok != want {
				t.Errorf("visit %d is there: %t", i, ok)
			}
		}
	})
}

func TestWhatIsNoVisitIsRefused(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	for name, change := range map[string]func(*Visit){
		"nobody's":                func(v *Visit) { v.Username = "" },
		"a long name's":           func(v *Visit) { v.Username = string(make([]byte, maxUsername+1)) },
		"an account with a blank": func(v *Visit) { v.Account = "a b" },
		"no browser":              func(v *Visit) { v.UserAgent = "" },
		"no session":              func(v *Visit) { v.Hash = "" },
		"none that is sealed":     func(v *Visit) { v.Session = "" },
		"a long session":          func(v *Visit) { v.Session = string(make([]byte, maxSealedID+1)) },
	} {
		v := aVisit(someHome, "ada", firefoxUA, "one")
		change(&v)
		if err := f.Land(t.Context(), v, visitLife, false); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestASessionThatIsHeldIsSpared(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx, v := t.Context(), aVisit(someHome, "ada", firefoxUA, "one")
		f.lands(t, v, aVisit(someHome, "ada", firefoxUA, "two"))
		hold := func() {
			t.Helper()
			if err := f.Hold(ctx, "one"); err != nil {
				t.Fatal(err)
			}
		}
		f.wantTrips(t, 1, hold)
		for range 2 { // a call that is repeated
			all, held, err := f.again().CallOff(ctx, someHome, "ada", firefoxUA)
			if wantSealed(t, all, err, "sealed-two"); !held {
				t.Error("none is held")
			}
		}
		f.wantTrips(t, 1, func() {
			if off, err := f.LetGo(ctx, "one"); !off || err != nil {
				t.Errorf("%t, %v", off, err)
			}
		})
		if off, err := f.LetGo(ctx, "one"); off || err != nil {
			t.Errorf("twice: %t, %v", off, err)
		}
		f.lands(t, v) // the home vouches for the learner anew, here and below
		hold()
		hold()        // by another tab
		f.lands(t, v) // which lets go once
		if _, held, err := f.CallOff(ctx, someHome, "ada", firefoxUA); !held || err != nil {
			t.Errorf("the other tab does not hold it: %t, %v", held, err)
		}
		f.lands(t, v)
		all, held, err := f.CallOff(ctx, someHome, "ada", firefoxUA)
		if wantSealed(t, all, err, "sealed-one", "sealed-two"); held {
			t.Error("one is held for good")
		}
		f.lands(t, v)
		hold()
		hold()
		f.CallOff(ctx, someHome, "ada", firefoxUA)
		for i, want := range []bool{false, true} { // the last one ends it
			if off, err := f.LetGo(ctx, "one"); off != want || err != nil {
				t.Errorf("let go %d times: %t, %v", i+1, off, err)
			}
		}
		f.lands(t, v)
		hold()
		if ttl := f.r.client.PTTL(ctx, f.key(kindHeld, HomeHash("one"))).Val(); ttl <= 0 || ttl > holdLife {
			t.Errorf("it is held for %s", ttl)
		}
	})
}

func TestWhoIsBusy(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx, start := t.Context(), f.clock.now()
		busy := func(since time.Time) map[string][]string {
			t.Helper()
			all, err := f.Busy(ctx, since)
			if err != nil {
				t.Fatal(err)
			}
			named := map[string][]string{}
			for home, names := range all {
				slices.Sort(names)
				named[home.String()] = names
			}
			return named
		}
		ada := aVisit(someHome, "ada", firefoxUA, "one")
		f.lands(t, ada, aVisit(someHome, "ada", chromeUA, "two"), aVisit(someHome, "bob b", firefoxUA, "three"), aVisit(otherHome, "ada", firefoxUA, "four"))
		if diff := cmp.Diff(map[string][]string{someHome.String(): {"ada", "bob b"}, otherHome.String(): {"ada"}}, busy(start)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		f.clock.advance(10 * time.Minute)
		later := f.clock.now()
		if got := busy(later); len(got) != 0 {
			t.Errorf("busy are %v", got)
		}
		if _, err := f.RenewVisits(ctx, []string{"one", "three"}, visitLife); err != nil {
			t.Fatal(err)
		}
		if err := f.EndVisit(ctx, aVisit(someHome, "bob b", firefoxUA, "three")); err != nil {
			t.Fatal(err)
		}
		if err := f.EndVisit(ctx, ada); err != nil { // who is here in another browser
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string][]string{someHome.String(): {"ada"}}, busy(later)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		f.clock.advance(2 * busyKept)
		if _, err := f.RenewVisits(ctx, []string{"none"}, visitLife); err != nil {
			t.Fatal(err)
		}
		if got := busy(start); len(got) != 0 {
			t.Errorf("for ever busy are %v", got)
		}
	})
}

func TestManySessionsAreRenewedAtOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		var ids []string
		for i := range 2*maxRenewed + 1 {
			ids = append(ids, fmt.Sprint("session", i))
		}
		f.lands(t, aVisit(someHome, "ada", firefoxUA, ids[2*maxRenewed]))
		f.clock.advance(time.Hour)
		f.wantTrips(t, 3, func() {
			if _, err := f.RenewVisits(t.Context(), ids, visitLife); err != nil {
				t.Error(err)
			}
		})
		if v, ok, err := f.VisitOf(t.Context(), ids[2*maxRenewed]); !ok || err != nil || v.Expires.Before(f.clock.now().Add(visitLife-time.Minute)) {
			t.Errorf("%+v, %t, %v", v, ok, err)
		}
	})
}

func TestOneGatewayHasTheTurn(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		const lease, every = 2 * time.Second, 10 * time.Minute
		ask := func(name string) (bool, time.Time) {
			t.Helper()
			due, last, err := f.again().Turn(t.Context(), name, lease, every)
			if err != nil {
				t.Fatal(err)
			}
			return due, last
		}
		var mu sync.Mutex
		var all sync.WaitGroup
		first := ""
		for i := range 8 {
			all.Go(func() {
				name := fmt.Sprint("gateway", i)
				due, last, err := f.Turn(t.Context(), name, lease, every)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || due && first != "" {
					t.Errorf("%s: %t, %v", name, due, err)
				}
				if due {
					first = name
					if ago := f.clock.now().Sub(last); ago < every || ago > every+time.Minute {
						t.Errorf("the first time, the last one was %s ago", ago)
					}
				}
			})
		}
		all.Wait()
		if first == "" {
			t.Fatal("nobody has the turn")
		}
		did := f.clock.now()
		if due, _ := ask(first); due {
			t.Error("it is due twice")
		}
		f.clock.advance(every)
		if due, _ := ask("another"); due {
			t.Error("another gateway takes the turn away")
		}
		if due, last := ask(first); !due || did.Sub(last).Abs() > time.Minute {
			t.Errorf("due %t, last %s", due, last)
		}
		f.r.client.Del(t.Context(), f.key(kindTurn, "of")) // as the lease does that nobody renews
		f.clock.advance(every)
		if due, _ := ask("another"); !due {
			t.Error("nobody follows a gateway that is gone")
		}
		if ttl := f.r.client.PTTL(t.Context(), f.key(kindTurn, "of")).Val(); ttl <= 0 || ttl > lease {
			t.Errorf("the turn ends in %s", ttl)
		}
	})
}

func TestWhoLogsOutAtHomeWhileTheyAreAskedDoesNotLand(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		land := func(v Visit, awaited bool) error { return f.Land(ctx, v, visitLife, awaited) }
		logout := func(username, userAgent string) {
			t.Helper()
			if _, _, err := f.CallOff(ctx, someHome, username, userAgent); err != nil {
				t.Fatal(err)
			}
		}
		v := aVisit(someHome, "ada", firefoxUA, "one")
		logout("ada", firefoxUA) // before
		f.wantTrips(t, 1, func() {
			if err := f.Await(ctx, someHome, "ada", firefoxUA); err != nil {
				t.Error(err)
			}
		})
		logout("ada", chromeUA)
		logout("bob", firefoxUA)
		if err := land(v, true); err != nil {
			t.Error(err)
		}
		logout("ada", firefoxUA)
		if err := land(aVisit(someHome, "ada", firefoxUA, "two"), true); !errors.Is(err, ErrLoggedOut) {
			t.Errorf("landed: %v", err)
		}
		if _, ok, _ := f.VisitOf(ctx, "two"); ok {
			t.Error("it is remembered")
		}
		if err := land(v, false); err != nil { // by a new token
			t.Error(err)
		}
	})
}

func TestAHomeFillsNoKeysWithWhatIsNoBrowser(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for _, userAgent := range []string{firefoxUA + "0", strings.Repeat("a", 1<<20), "x " + someHome.String()} {
			if all, held, err := f.CallOff(t.Context(), someHome, "ada", userAgent); len(all) != 0 || held || err != nil {
				t.Errorf("%v, %t, %v", all, held, err)
			}
			if f.r.client.Exists(t.Context(), f.goneKey(visitor(someHome, "ada"), userAgent)).Val() != 0 {
				t.Errorf("a browser of %d bytes is remembered", len(userAgent))
			}
		}
	})
}

func TestASessionThatWasToEndIsNotRenewed(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		f.lands(t, aVisit(someHome, "ada", firefoxUA, "one"), aVisit(someHome, "ada", firefoxUA, "two"), aVisit(someHome, "ada", chromeUA, "three"), aVisit(someHome, "bob b", firefoxUA, "four"))
		if err := f.Hold(ctx, "two"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, _, err := f.CallOff(ctx, someHome, "ada", firefoxUA); err != nil {
				t.Fatal(err)
			}
		}
		renew := func(want ...string) {
			t.Helper()
			off, err := f.RenewVisits(ctx, []string{"one", "two", "three", "four"}, visitLife)
			wantSealed(t, off, err, want...)
		}
		expires := func(session string) time.Time {
			t.Helper()
			v, ok, err := f.VisitOf(ctx, session)
			if !ok || err != nil {
				t.Fatalf("%s: %t, %v", session, ok, err)
			}
			return v.Expires
		}
		one, two, three := expires("one"), expires("two"), expires("three")
		f.clock.advance(time.Second)
		later := f.clock.now()
		renew("sealed-one") // two is somebody's who decides
		if !expires("one").Equal(one) || !expires("two").Equal(two) || !expires("three").After(three) {
			t.Error("not what is in use was renewed")
		}
		f.r.client.Del(ctx, f.key(kindHeld, HomeHash("two"))) // who holds it is gone
		renew("sealed-one", "sealed-two")
		all, held, err := f.CallOff(ctx, someHome, "ada", firefoxUA)
		if wantSealed(t, all, err, "sealed-one", "sealed-two"); held {
			t.Error("one is held")
		}
		f.lands(t, aVisit(someHome, "ada", firefoxUA, "two")) // the learner is logged in at home once more
		renew("sealed-one")
		if busy, err := f.Busy(ctx, later); len(busy[someHome]) != 2 || err != nil {
			t.Errorf("busy are %v, %v", busy, err)
		}
	})
}

func TestWhoIsToGoIsNotHeldForLong(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		ctx, v, key := t.Context(), aVisit(someHome, "ada", firefoxUA, "one"), f.key(kindHeld, HomeHash("one"))
		hold := func() {
			t.Helper()
			f.wantTrips(t, 1, func() {
				if err := f.Hold(ctx, "one"); err != nil {
					t.Fatal(err)
				}
			})
		}
		callOff := func(want bool) {
			t.Helper()
			if _, held, err := f.CallOff(ctx, someHome, "ada", firefoxUA); held != want || err != nil {
				t.Errorf("held: %t, %v", held, err)
			}
		}
		f.lands(t, v)
		hold()
		callOff(true)
		f.r.client.PExpire(ctx, key, 5*time.Second)
		hold() // once more, and so on without end
		if ttl := f.r.client.PTTL(ctx, key).Val(); ttl > 5*time.Second {
			t.Errorf("it is held for %s more", ttl)
		}
		f.r.client.Del(ctx, key) // as time does
		hold()
		callOff(false)
		if off, err := f.LetGo(ctx, "one"); off || err != nil {
			t.Errorf("let go: %t, %v", off, err)
		}
		f.lands(t, v) // the home vouches for the learner anew
		hold()
		callOff(true)
	})
}

func TestVisitsAreListed(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.lands(t, aVisit(someHome, "ada lovelace", firefoxUA, "one"), aVisit(someHome, "ada lovelace", chromeUA, "two"), aVisit(otherHome, "ada", firefoxUA, "three"))
		f.begins(t, otherHome, "bob", firefoxUA, "")
		all, more, err := f.ListVisits(t.Context(), gateway.Wwwroot{}, 3)
		if wantSealed(t, all, err, "", "sealed-one", "sealed-three", "sealed-two"); more {
			t.Error("there are more")
		}
		if all, more, err := f.ListVisits(t.Context(), gateway.Wwwroot{}, 2); len(all) < 2 || len(all) > 3 || !more || err != nil {
			t.Errorf("%v, %t, %v", all, more, err)
		}
		all, more, err = f.ListVisits(t.Context(), someHome, 3)
		if wantSealed(t, all, err, "sealed-one", "sealed-two"); more {
			t.Error("there are more")
		}
		f.clock.advance(visitLife)
		all, more, err = f.ListVisits(t.Context(), gateway.Wwwroot{}, 3)
		if wantSealed(t, all, err); more {
			t.Error("there are more")
		}
	})
}
