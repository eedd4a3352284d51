package sp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/sp"
)

// telling is an application of which it is noted what homes are told.
type telling struct {
	*applicationSite
	mu   sync.Mutex
	said []string
}

func newTelling(t *testing.T, home func(context.Context) (mnet.Value, error), pauses ...time.Duration) *telling {
	t.Helper()
	v := &telling{applicationSite: newApplicationSite(t, sp.AlgorithmEdDSA)}
	v.App.Visits.Call = func(ctx context.Context, to *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
		if names, ok := params[0].(mnet.Array); ok { // in any order
			slices.SortFunc(names, func(a, b mnet.Value) int { return strings.Compare(mnet.Text(a), mnet.Text(b)) })
		}
		v.say(fmt.Sprint(to.Wwwroot.Hostname(), " ", strings.TrimPrefix(method, "auth/mnet/auth.php/"), params))
		if home != nil {
			return home(ctx)
		}
		return "", nil
	}
	v.App.Visits.Children = mnet.NewChildren(func(l mnet.Logout) {
		v.say("outcome: " + l.At.Hostname() + " " + l.Username + " " + l.Cause + " " + l.Outcome)
	}, pauses)
	return v
}

func (v *telling) say(what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.said = append(v.said, what)
}

// want waits for the background and compares what was said, in any order.
func (v *telling) want(t *testing.T, want ...string) {
	t.Helper()
	v.App.Visits.Children.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	slices.Sort(v.said)
	slices.Sort(want)
	if diff := cmp.Diff(want, v.said); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	v.said = nil
}

// leaves lets the browser with a cookie log out.
func (v *telling) leaves(t *testing.T, c *http.Cookie) sp.Departure {
	t.Helper()
	r := httptest.NewRequest("POST", "https://forum.test/jumpgate/logout", nil)
	r.AddCookie(c)
	d, _, err := v.App.Leave(r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWhoLogsOutOfAnApplicationIsLoggedOutAtHome(t *testing.T) {
	told := "home.test kill_children[ada " + agentOf(firefox) + "]"
	for _, test := range []struct {
		name     string
		home     func(context.Context) (mnet.Value, error)
		change   func(*gateway.Peer)
		location string
		within   time.Duration
		want     []string
	}{
		{"at once", nil, nil, "https://home.test/", 0, []string{told, "outcome: home.test ada here ended"}},
		{"where nobody knows of it", func(context.Context) (mnet.Value, error) { return "Could find no remote sessions\n", nil }, nil,
			"https://home.test/", 0, []string{told, "outcome: home.test ada here none"}},
		{"that is dead", func(context.Context) (mnet.Value, error) { return nil, errDown }, nil,
			"https://home.test/", 0, []string{told, told, "outcome: home.test ada here failed"}},
		{"that hangs", func(ctx context.Context) (mnet.Value, error) { <-ctx.Done(); return nil, ctx.Err() }, nil,
			"https://home.test/", 500 * time.Millisecond, []string{told, told, "outcome: home.test ada here failed"}},
		{"that is switched off", nil, func(p *gateway.Peer) { p.Off = true }, "", 0, []string{"outcome: home.test ada here not-subscribed"}},
		{"that does not let us call", nil, func(p *gateway.Peer) { p.Subscribe = nil }, "https://home.test/", 0, []string{"outcome: home.test ada here not-subscribed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newTelling(t, test.home, time.Minute)
				c, other := v.land(t, "one").Session, v.land(t, "two").Session
				if v.asserted(t, c) == "" {
					t.Fatal("there is no session")
				}
				if test.change != nil {
					test.change(v.Peers.Peers()[0])
				}
				start := time.Now()
				d := v.leaves(t, c)
				if took := time.Since(start); took > test.within || d.Location != test.location || d.Visit.Account != "ada@home.test" {
					t.Errorf("after %s, %+v", took, d)
				}
				v.want(t, test.want...)
				if v.asserted(t, c) != "" || test.change == nil && v.asserted(t, other) == "" {
					t.Error("the session goes on here, or another one does not")
				}
				if d := v.leaves(t, c); d.Location != "" {
					t.Errorf("a session that is over counts twice: %+v", d)
				}
				v.want(t)
			})
		})
	}
}

func TestAHomeEndsSessionsOfItsOwnLearnersAloneAtAnApplication(t *testing.T) {
	v := newTelling(t, nil)
	peers, err := gateway.NewAllowlist(v.Peers.Peers()[0], &gateway.Peer{Wwwroot: wwwroot(t, "https://other.test"), Subscribe: []string{"sso_idp"}})
	if err != nil {
		t.Fatal(err)
	}
	v.Peers = peers
	c := v.land(t, "one").Session
	for _, test := range []struct{ name, home, username, userAgent string }{
		{"another home", "https://other.test", "ada", agentOf(firefox)},
		{"another learner", "https://home.test", "bob", agentOf(firefox)},
		{"another browser", "https://home.test", "ada", agentOf(chrome)},
		{"no browser", "https://home.test", "ada", ""},
		{"the account's name", "https://home.test", "ada@home.test", agentOf(firefox)},
		{"a key of ours", "https://other.test", "https://home.test ada", agentOf(firefox)},
	} {
		answer, err := v.homeSays(test.home, "kill_child", test.username, test.userAgent)
		if on, ok := err.(*mnet.PassOn); !ok || on.Else != false || answer != nil || v.asserted(t, c) == "" {
			t.Errorf("%s: answered %v, %v", test.name, answer, err)
		}
	}
	other := v.another() // has never seen the assertion
	if answer, err := v.homeSays("https://home.test", "kill_child", "ada", agentOf(firefox)); answer != true || err != nil {
		t.Errorf("the home itself: answered %v, %v", answer, err)
	}
	v.want(t, "outcome: forum.test ada@home.test home ended")
	before := v.trips.Load()
	if v.asserted(t, c) != "" || v.trips.Load()-before != 1 {
		t.Error("the assertion is used that was made before")
	}
	if v.App = other; v.asserted(t, c) != "" {
		t.Error("another gateway makes one")
	}
}

// TestALogoutAtHomeOutlivesTheQuestionAtAnApplication: who is asked here, and logs out
// at home meanwhile, has changed their mind.
func TestALogoutAtHomeOutlivesTheQuestionAtAnApplication(t *testing.T) {
	for _, logout := range []bool{false, true} {
		v := newTelling(t, nil)
		c := v.land(t, "one").Session
		if _, err := v.homeSays("https://home.test", "kill_child", "bob", agentOf(firefox)); err == nil { // before
			t.Error("bob has a session")
		}
		v.message.answer = with("username", "bob")
		a := v.land(t, "two", c)
		if a.Outcome != sp.OutcomeAsked {
			t.Fatalf("%+v", a)
		}
		if logout {
			_, _ = v.homeSays("https://home.test", "kill_child", "bob", agentOf(firefox))
		}
		r := visit("POST", "https://forum.test/jumpgate/switch", "", url.Values{"landing": {a.Question.Ticket}, "answer": {"switch"}}.Encode())
		r.Header.Set("User-Agent", firefox)
		r.AddCookie(c)
		a = v.Switch(httptest.NewRecorder(), r)
		if logout && (a.Rule != gateway.RuleTokenRefused || a.Session != nil || v.asserted(t, c) == "") || !logout && (a.Outcome != sp.OutcomeSwitched || v.asserted(t, a.Session) == "") {
			t.Errorf("after a logout %t: %+v", logout, a)
		}
	}
}

func TestLearnersBusyAtAnApplicationAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTelling(t, nil)
		now := time.Now
		v.App.Now, v.App.Visits.Now, v.App.Assertions.Now, v.Landings.Now = now, now, now, now
		v.clock.Store(now().UnixNano())
		if answer, err := v.homeSays("https://home.test", "keepalive_client"); answer != true || err != nil {
			t.Errorf("while nobody is there, answered %v, %v", answer, err)
		}
		c := v.land(t, "one").Session
		v.message.answer = with("username", "idle")
		v.land(t, "two")
		if answer, err := v.homeSays("https://home.test", "keepalive_client"); answer != nil || err != nil {
			t.Errorf("answered %v, %v", answer, err)
		}
		v.want(t, "home.test keepalive_server[[ada idle]]")
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, visits := range []*sp.Visits{v.App.Visits, {Site: v.Site, Peers: v.Peers, Store: v.App.Store, Now: now, Call: v.App.Visits.Call}} { // of two gateways
			running.Go(func() { visits.Run(ctx) })
		}
		pass := func(minutes int) {
			for range minutes {
				time.Sleep(29500 * time.Millisecond) // when nothing else happens
				v.clock.Store(now().UnixNano())
				before := v.trips.Load()
				if v.asserted(t, c) == "" || v.trips.Load()-before != 1 {
					t.Errorf("a request takes %d round trips", v.trips.Load()-before)
				}
				time.Sleep(30500 * time.Millisecond)
				synctest.Wait()
			}
		}
		pass(2)
		v.want(t, "home.test keepalive_server[[ada idle]]")
		pass(20)
		v.want(t, "home.test keepalive_server[[ada]]", "home.test keepalive_server[[ada]]")
		v.leaves(t, c)
		v.want(t, "home.test kill_children[ada "+agentOf(firefox)+"]", "outcome: home.test ada here ended")
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		v.want(t)
		stop()
		running.Wait()
	})
}

func TestWhatLastsIsLookedAtAgainAndAgain(t *testing.T) {
	for what, end := range map[string]func(*testing.T, *telling){
		"a logout at home": func(t *testing.T, v *telling) {
			if answer, err := v.homeSays("https://home.test", "kill_child", "ada", agentOf(firefox)); answer != true || err != nil {
				t.Errorf("answered %v, %v", answer, err)
			}
		},
		"a grant that is over": func(_ *testing.T, v *telling) { v.advance(time.Minute) },
		"nothing":              nil,
		"no Redis":             nil,
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newTelling(t, nil)
				v.Peers.Peers()[0].Expires = v.App.Now().Add(time.Minute)
				r := httptest.NewRequest("GET", "https://forum.test/x", nil)
				r.AddCookie(v.land(t, "one").Session)
				lasting, stop := v.App.Lasting(r)
				defer stop()
				time.Sleep(10 * time.Minute)
				if lasting.Context().Err() != nil {
					t.Fatal("it ends by itself")
				}
				if what == "no Redis" {
					v.redis.Close()
				}
				if end != nil {
					end(t, v)
				}
				time.Sleep(30 * time.Second)
				synctest.Wait()
				if ended := lasting.Context().Err() != nil; ended != (end != nil) {
					t.Errorf("it ends: %t", ended)
				}
				if r.Context().Err() != nil {
					t.Error("the browser is gone")
				}
			})
		})
	}
}
