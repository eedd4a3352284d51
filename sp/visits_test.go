package sp_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
	"jumpgate/sp"
)

var sharedRedis = sync.OnceValues(func() (*store.Redis, error) { return store.Open(store.Options{Addr: store.Embedded}) })

// TestMain opens it outside of the bubbles of synctest.
func TestMain(m *testing.M) {
	sharedRedis()
	os.Exit(m.Run())
}

// newVisits are those of https://forum.test, in a Redis of all tests.
func newVisits(t testing.TB, peers *gateway.Allowlist) *sp.Visits {
	t.Helper()
	redis, err := sharedRedis()
	if err != nil {
		t.Fatal(err)
	}
	return &sp.Visits{
		Site: wwwroot(t, "https://forum.test"), Peers: peers, Cookie: "MoodleSession", Life: 8 * time.Hour,
		Store: redis.Site(wwwroot(t, "https://forum.test")), Secrets: func() [][32]byte { return [][32]byte{{2}} }, Now: time.Now,
		Children: mnet.NewChildren(func(mnet.Logout) {}, nil),
	}
}

const firefox, chrome = "Mozilla/5.0 (ada)", "Mozilla/5.0 (other)"

func agentOf(userAgent string) string {
	sum := sha1.Sum([]byte(userAgent))
	return hex.EncodeToString(sum[:])
}

// watched is a forum, of which it is noted what it ends and tells.
type watched struct {
	*sp.Visits
	t       *testing.T
	landing *forum
	moodle  *headerMoodle

	mu     sync.Mutex
	said   []string
	home   func(ctx context.Context) (mnet.Value, error) // how homes answer
	logout error
}

func (w *watched) say(parts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, strings.Join(parts, " "))
}

// answering forgets what was said, and has homes answer so from now on.
func (w *watched) answering(home func(ctx context.Context) (mnet.Value, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said, w.home = nil, home
}

// want waits for the background and compares what was said, in any order.
func (w *watched) want(want ...string) {
	w.t.Helper()
	w.Children.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.said)
	slices.Sort(want)
	if diff := cmp.Diff(want, w.said); diff != "" {
		w.t.Errorf("(-want +got)\n%s", diff)
	}
	w.said = nil
}

func watch(t *testing.T, pauses ...time.Duration) *watched {
	t.Helper()
	redis, err := store.Open(store.Options{Addr: store.Embedded})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { redis.Close() })
	w := &watched{t: t, moodle: &headerMoodle{answer: ada(), login: begun}}
	w.landing = newHeaderForum(t, w.moodle)
	peers, err := gateway.NewAllowlist(w.landing.Peers.Peers()[0],
		&gateway.Peer{Wwwroot: wwwroot(t, "https://other.test"), Application: gateway.Moodle, Subscribe: []string{"sso_idp"}},
		&gateway.Peer{Wwwroot: wwwroot(t, "https://mute.test"), Application: gateway.Moodle},
		&gateway.Peer{Wwwroot: wwwroot(t, "https://off.test"), Application: gateway.Moodle, Subscribe: []string{"sso_idp"}, Off: true})
	if err != nil {
		t.Fatal(err)
	}
	w.Visits = newVisits(t, peers)
	w.Store = redis.Site(w.Site)
	w.Visits.Children = mnet.NewChildren(func(l mnet.Logout) {
		w.say("outcome:", l.At.Hostname(), l.Username, l.Cause, l.Outcome)
	}, pauses)
	w.Call = func(ctx context.Context, home *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("the home may take as long as it likes")
		}
		w.say(fmt.Sprint(home.Wwwroot.Hostname(), " ", strings.TrimPrefix(method, "auth/mnet/auth.php/"), params))
		w.mu.Lock()
		answer := w.home
		w.mu.Unlock()
		if answer != nil {
			return answer(ctx)
		}
		return "", nil
	}
	w.Logout = func(_ context.Context, b moodle.Browser, userID int64) error {
		w.say(fmt.Sprint("logout of ", b.Session, " ", userID))
		return w.logout
	}
	w.landing.Logins.Visits, w.landing.Once = w.Visits, w.Store
	return w
}

// visit begins the visit of a learner as a landing does.
func (w *watched) visit(home, learner, userAgent, session string) {
	w.t.Helper()
	site := w.Site.String()
	err := w.Store.Land(w.t.Context(), store.Visit{
		Home: wwwroot(w.t, home), Username: learner, Account: learner + "@" + strings.TrimPrefix(home, "https://"), UserID: 9, UserAgent: agentOf(userAgent),
		Session: w.Secrets.Seal(session, "visit "+site+" "+home+" "+learner), Hash: store.HomeHash(session),
	}, w.Life, false)
	if err != nil {
		w.t.Fatal(err)
	}
}

// asks calls a method as a home does.
func (w *watched) asks(home, method string, params ...mnet.Value) (mnet.Value, error) {
	w.t.Helper()
	methods := w.Methods()
	i := slices.IndexFunc(methods, func(m mnet.Method) bool { return m.Name == "auth/mnet/auth.php/"+method })
	if i < 0 || methods[i].Service != gateway.ServiceSSOSP || methods[i].MinParams != len(params) {
		w.t.Fatalf("method %s is not as it should be", method)
	}
	return methods[i].Call(w.t.Context(), &mnet.Call{Peer: w.Peers.Exact(home), Params: params})
}

func (w *watched) isVisit(session string) bool {
	w.t.Helper()
	_, ok, err := w.Store.VisitOf(w.t.Context(), session)
	if err != nil {
		w.t.Fatal(err)
	}
	return ok
}

func TestALandingBeginsAVisit(t *testing.T) {
	w := watch(t)
	if a := w.landing.lands(t, ""); a.Outcome != sp.OutcomeLanded {
		t.Fatalf("%+v", a)
	}
	v, ok, err := w.Store.VisitOf(t.Context(), fresh)
	if !ok || err != nil || v.Home.String() != "https://home.test" || v.Username != "ada" || v.Account != "ada@home.test" || v.UserID != 9 ||
		v.UserAgent != agentOf(firefox) || strings.Contains(v.Session, fresh) || v.Expires.Sub(v.Started) != w.Life {
		t.Errorf("%+v, %t, %v", v, ok, err)
	}
	if answer, err := w.asks("https://home.test", "kill_child", "ada", agentOf(firefox)); answer != true || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	w.want("logout of "+fresh+" 9", "outcome: forum.test ada@home.test home ended")
	if w.isVisit(fresh) {
		t.Error("the visit is not over")
	}
}

func TestAHomeEndsVisitsOfItsOwnLearnersAlone(t *testing.T) {
	for _, test := range []struct{ name, home, username, userAgent string }{
		{"another home", "https://other.test", "ada", agentOf(firefox)},
		{"another learner", "https://home.test", "bob", agentOf(firefox)},
		{"another browser", "https://home.test", "ada", agentOf(chrome)},
		{"no browser", "https://home.test", "ada", ""},
		{"the account's name", "https://home.test", "ada@home.test", agentOf(firefox)},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := watch(t)
			w.visit("https://home.test", "ada", firefox, adas)
			answer, err := w.asks(test.home, "kill_child", test.username, test.userAgent)
			if on, ok := errors.AsType[*mnet.PassOn](err); !ok || on.Else != false || answer != nil {
				t.Errorf("answered %v, %v", answer, err)
			}
			w.want()
			if !w.isVisit(adas) {
				t.Error("it is over")
			}
		})
	}
}

func TestAHomeThatHasMovedEndsWhatBeganUnderItsOldName(t *testing.T) {
	w := watch(t)
	w.visit("https://home.test", "ada", firefox, adas)
	w.visit("https://home.test", "bob", firefox, bobs)
	var err error
	w.Peers, err = gateway.NewAllowlist(&gateway.Peer{
		Wwwroot: wwwroot(t, "https://new.test"), Aliases: []gateway.Wwwroot{wwwroot(t, "https://home.test")}, Application: gateway.Moodle, Subscribe: []string{"sso_idp"},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.visit("https://new.test", "ada", firefox, adasNext)
	if answer, err := w.asks("https://new.test", "keepalive_client"); answer != nil || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	w.want("new.test keepalive_server[[ada bob]]")
	if answer, err := w.asks("https://new.test", "kill_child", "ada", agentOf(firefox)); answer != true || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	w.want("logout of "+adas+" 9", "logout of "+adasNext+" 9", "outcome: forum.test ada@home.test home ended", "outcome: forum.test ada@new.test home ended")
	if w.isVisit(adas) || w.isVisit(adasNext) || !w.isVisit(bobs) {
		t.Error("not what was to end is over")
	}
}

func TestASessionThatDoesNotEndIsTriedAgain(t *testing.T) {
	w := watch(t, 0, 0)
	w.visit("https://home.test", "ada", firefox, adas)
	w.logout = errDown
	if answer, err := w.asks("https://home.test", "kill_child", "ada", agentOf(firefox)); answer != true || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	call := "logout of " + adas + " 9"
	w.want(call, call, call, "outcome: forum.test ada@home.test home failed")
	if !w.isVisit(adas) {
		t.Error("the home cannot try once more")
	}
	w.Secrets = func() [][32]byte { return [][32]byte{{3}} } // the key is lost
	if answer, err := w.asks("https://home.test", "kill_child", "ada", agentOf(firefox)); answer != true || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	w.want("outcome: forum.test ada@home.test home failed")
}

// TestALandingMoreKeepsTheSession: a home may end the session before it says whose
// the token is, to which a new one would belong.
func TestALandingMoreKeepsTheSession(t *testing.T) {
	for _, test := range []struct {
		name, session string
		fault         error
		outcome       string
		ended         bool
	}{
		{"of the same account", adas, nil, sp.OutcomeSame, false},
		{"that the home refuses", adas, &mnet.Fault{Code: 1}, "", true},
		{"of another account", bobs, nil, sp.OutcomeAsked, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := watch(t)
			username := "ada"
			if test.session == bobs {
				username = "bob"
			}
			w.visit("https://home.test", username, firefox, test.session)
			w.visit("https://home.test", username, firefox, adasNext) // in a browser just like it
			redeem := w.landing.Logins.Call
			w.landing.Logins.Call = func(ctx context.Context, home *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
				if answer, err := w.asks("https://home.test", "kill_child", username, agentOf(firefox)); answer != true || err != nil {
					t.Errorf("answered %v, %v", answer, err)
				}
				w.moodle.fault = test.fault
				return redeem(ctx, home, method, params...)
			}
			if a := w.landing.lands(t, test.session); a.Outcome != test.outcome || a.Err != nil {
				t.Errorf("%+v", a)
			}
			name := username + "@home.test"
			want := []string{"logout of " + adasNext + " 9", "outcome: forum.test " + name + " home ended"}
			if test.ended {
				want = append(want, "logout of "+test.session+" 9", "outcome: forum.test "+name+" home ended")
			}
			w.want(want...)
			if w.isVisit(test.session) == test.ended {
				t.Errorf("the visit is there: %t", !test.ended)
			}
		})
	}
}

func TestNobodyLandsUnremembered(t *testing.T) {
	w := watch(t)
	w.landing.Once = marks{}
	w.Life = 0 // which no Redis takes
	if a := w.landing.lands(t, ""); a.Err == nil || a.Location != "" || a.Cookies != nil || a.Outcome != "" {
		t.Errorf("%+v", a)
	}
	w.want("logout of " + fresh + " 9")
}

// leaves lets a browser log out, to which Moodle answers with a session.
func (w *watched) leaves(session, after string, status int, headers ...string) sp.Departure {
	w.t.Helper()
	r := visit("GET", "https://forum.test/login/logout.php?sesskey=x", session)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if !w.Leaves(r) {
		w.t.Fatal("that is no logout")
	}
	return w.Leave(r, answered(status, after))
}

func TestWhoLogsOutHereIsLoggedOutAtHome(t *testing.T) {
	told := "home.test kill_children[ada " + agentOf(firefox) + "]"
	for _, test := range []struct {
		name, session, after string
		status               int
		headers              []string
		location             string
		want                 []string
	}{
		{"by a click", adas, anonymous, 303, []string{"Sec-Fetch-Site", "same-origin"}, "https://home.test/", []string{told, "outcome: home.test ada here ended"}},
		{"by an old browser", adas, anonymous, 303, nil, "https://home.test/", []string{told, "outcome: home.test ada here ended"}},
		{"by an old browser, from a page", adas, anonymous, 303, []string{"Referer", "https://forum.test/my/"}, "https://home.test/", []string{told, "outcome: home.test ada here ended"}},
		{"when Moodle asks", adas, "", 200, nil, "", nil},
		{"when the session goes on", adas, adas, 303, nil, "", nil},
		{"when a page of somebody else's asks for it", adas, anonymous, 303, []string{"Sec-Fetch-Site", "cross-site"}, "", nil},
		{"when an old browser says so", adas, anonymous, 303, []string{"Origin", "https://evil.test"}, "", nil},
		{"who has an account here", bobs, anonymous, 303, nil, "", nil},
		{"whose home does not let us call", guests, anonymous, 303, nil, "https://mute.test/", []string{"outcome: mute.test ada here not-subscribed"}},
		{"whose home is switched off", wornAdas, anonymous, 303, nil, "", []string{"outcome: off.test ada here not-subscribed"}},
		{"whose home is none any more", halfAdas, anonymous, 303, nil, "", []string{"outcome: former.test ada here not-subscribed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := watch(t)
			w.visit("https://home.test", "ada", firefox, adas)
			w.visit("https://mute.test", "ada", firefox, guests)
			w.visit("https://off.test", "ada", firefox, wornAdas)
			w.visit("https://former.test", "ada", firefox, halfAdas)
			d := w.leaves(test.session, test.after, test.status, test.headers...)
			if d.Location != test.location {
				t.Errorf("led to %q, want %q", d.Location, test.location)
			}
			w.want(test.want...)
			if told := len(test.want) == 2; told == w.isVisit(adas) {
				t.Errorf("the visit is there: %t", told)
			}
		})
	}
}

func TestOnlyAPageOfALogoutIsOne(t *testing.T) {
	w := watch(t)
	for target, session := range map[string]string{"/login/logout.php": "", "/login/index.php": adas, "/my/": adas, "/x/login/logout.php": adas} {
		if w.Leaves(visit("GET", "https://forum.test"+target, session)) {
			t.Errorf("%s, with session %q", target, session)
		}
	}
}

func TestAHomeThatDoesNotAnswerHoldsUpNobody(t *testing.T) {
	for _, test := range []struct {
		name    string
		home    func(ctx context.Context) (mnet.Value, error)
		within  time.Duration
		outcome string
	}{
		{"that is dead", func(context.Context) (mnet.Value, error) { return nil, errDown }, 0, "failed"},
		{"that hangs", func(ctx context.Context) (mnet.Value, error) { <-ctx.Done(); return nil, ctx.Err() }, 500 * time.Millisecond, "failed"},
		{"that knows of nothing", func(context.Context) (mnet.Value, error) { return "Could find no remote sessions\n", nil }, 0, "none"},
		{"that refuses", func(context.Context) (mnet.Value, error) { return nil, &mnet.Fault{Code: 707} }, 0, "refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, time.Minute)
				w.visit("https://home.test", "ada", firefox, adas)
				w.home = test.home
				start := time.Now()
				if d := w.leaves(adas, anonymous, 303); d.Location != "https://home.test/" {
					t.Errorf("led to %q", d.Location)
				}
				if took := time.Since(start); took > test.within {
					t.Errorf("it took %s", took)
				}
				w.Children.Wait()
				if last := w.said[len(w.said)-1]; last != "outcome: home.test ada here "+test.outcome {
					t.Error(last)
				}
			})
		})
	}
}

func TestWhoIsBackIsNotLoggedOutByALateCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, time.Minute)
		w.visit("https://home.test", "ada", firefox, adas)
		w.visit("https://home.test", "ada", firefox, bobs) // in a browser just like it
		time.Sleep(time.Second)
		w.home = func(context.Context) (mnet.Value, error) { return nil, errDown }
		w.leaves(adas, anonymous, 303)
		time.Sleep(time.Second)
		w.visit("https://home.test", "ada", firefox, adasNext)
		w.want("home.test kill_children[ada "+agentOf(firefox)+"]", "outcome: home.test ada here again")
	})
}

// uses lets a browser ask for a page.
func (w *watched) uses(session, target, after string) {
	r := visit("GET", "https://forum.test"+target, session)
	res := &http.Response{StatusCode: 200, Header: http.Header{}}
	if after != "" {
		res.Header.Set("Set-Cookie", "MoodleSession="+after+"; path=/")
	}
	w.Use(r, res)
}

func TestVisitsInUseLiveOnAndAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		w.Life = time.Hour
		w.Reported = func(home gateway.Wwwroot, learners int, err error) {
			w.say(fmt.Sprint("reported ", learners, " at ", home.Hostname(), " ", err != nil))
		}
		for session, home := range map[string]string{adas: "home", bobs: "other", guests: "mute", wornAdas: "home", halfAdas: "home"} {
			name := map[string]string{adas: "ada", bobs: "bob", guests: "carl", wornAdas: "idle", halfAdas: "timer"}[session]
			w.visit("https://"+home+".test", name, firefox, session)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		other := newVisits(t, w.Peers) // of another gateway
		other.Store, other.Call, other.Reported, other.Life = w.Store, w.Call, w.Reported, w.Life
		for _, v := range []*sp.Visits{w.Visits, other} {
			running.Go(func() { v.Run(ctx) })
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		w.answering(nil) // who has just landed was busy

		for range 60 {
			w.uses(adas, "/mod/x", "")
			w.uses(anonymous, "/mod/x", "")
			w.uses(halfAdas, "/lib/ajax/service.php?sesskey=x&nosessionupdate=true", "")
			w.uses(wornAdas, "/mod/x", adasNext)
			time.Sleep(time.Minute)
		}
		w.uses(guests, "/mod/x", "") // too late: its visit is over
		time.Sleep(time.Minute)
		synctest.Wait()
		want := map[string]int{"home.test keepalive_server[[ada]]": 6, "reported 1 at home.test false": 6}
		got := map[string]int{}
		w.mu.Lock()
		for _, said := range w.said {
			got[said]++
		}
		w.mu.Unlock()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		for session, lives := range map[string]bool{adas: true, bobs: false, guests: false, wornAdas: false, halfAdas: false} {
			if w.isVisit(session) != lives {
				t.Errorf("%s lives: %t", session, !lives)
			}
		}
		w.visit("https://mute.test", "carl", firefox, guests)
		w.visit("https://other.test", "bob", firefox, bobs)
		w.answering(func(context.Context) (mnet.Value, error) { return nil, errDown })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.want("home.test keepalive_server[[ada]]", "reported 1 at home.test true", "other.test keepalive_server[[bob]]", "reported 1 at other.test true", "reported 1 at mute.test true")

		time.Sleep(30 * time.Minute)
		w.uses(bobs, "/mod/x", "")
		stop()
		running.Wait() // which notes what was in use
		time.Sleep(40 * time.Minute)
		if !w.isVisit(bobs) {
			t.Error("what was in use at the end is forgotten")
		}
	})
}

func TestASessionThatWasNotEndedIsEndedWhenItIsUsed(t *testing.T) {
	w := watch(t, 0)
	w.visit("https://home.test", "ada", firefox, adas)
	w.visit("https://home.test", "bob", firefox, bobs)
	w.logout = errDown
	use := func(want ...string) {
		t.Helper()
		w.uses(adas, "/my/", "")
		w.uses(bobs, "/my/", "")
		if _, err := w.asks("https://other.test", "keepalive_client"); err != nil { // which finds out who is busy
			t.Error(err)
		}
		w.want(want...)
	}
	if answer, err := w.asks("https://home.test", "kill_child", "ada", agentOf(firefox)); answer != true || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	call := "logout of " + adas + " 9"
	w.want(call, call, "outcome: forum.test ada@home.test home failed")
	use(call)
	w.logout = nil
	use(call, "outcome: forum.test ada@home.test home ended")
	use()
	if w.isVisit(adas) || !w.isVisit(bobs) {
		t.Error("not what was to end is over")
	}
}

func TestAHomeAsksWhoIsBusy(t *testing.T) {
	w := watch(t)
	now := time.Now()
	w.Now = func() time.Time { return now }
	if answer, err := w.asks("https://home.test", "keepalive_client"); answer != true || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	w.visit("https://home.test", "ada", firefox, adas)
	w.visit("https://other.test", "bob", firefox, bobs)
	if answer, err := w.asks("https://home.test", "keepalive_client"); answer != nil || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	w.want("home.test keepalive_server[[ada]]")
	now = now.Add(6 * time.Minute)
	if answer, err := w.asks("https://home.test", "keepalive_client"); answer != true || err != nil {
		t.Errorf("later answered %v, %v", answer, err)
	}
	now = now.Add(-6 * time.Minute)
	w.home = func(context.Context) (mnet.Value, error) { return nil, errDown }
	if answer, err := w.asks("https://home.test", "keepalive_client"); answer != nil || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
}

func TestToAskWhoseASessionIsUsesItToo(t *testing.T) {
	w := watch(t)
	w.landing.Arrive(visit("GET", landing, adas))
	if n := sp.UsedForTest(w.Visits); n != 1 {
		t.Errorf("%d uses by a landing", n)
	}
	visitors := sp.Visitors{Source: w.landing.Source, Auth: moodle.AuthHeader, Visits: w.Visits}
	if _, err := visitors.Identity(t.Context(), moodle.Browser{Session: adas}); err != nil {
		t.Error(err)
	}
	if n := sp.UsedForTest(w.Visits); n != 1 {
		t.Errorf("%d uses by a jump", n)
	}
}

func TestMadeUpSessionsCrowdOutNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		w.Life = 90 * time.Second
		w.visit("https://home.test", "ada", firefox, adas)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.Run(ctx) })
		synctest.Wait()
		for range 3 {
			time.Sleep(30 * time.Second)
			for i := range 20_010 {
				w.uses(fmt.Sprintf("%026d", i), "/theme/styles.php", "")
			}
			synctest.Wait()
			w.uses(adas, "/my/", "")
		}
		time.Sleep(45 * time.Second)
		if !w.isVisit(adas) {
			t.Error("a visit in use is over")
		}
		stop()
		running.Wait()
	})
}

func TestUsesAreBounded(t *testing.T) {
	w := watch(t)
	for i := range 20_010 {
		w.uses(fmt.Sprintf("%026d", i), "/mod/x", "")
	}
	if n := sp.UsedForTest(w.Visits); n != 20_000 {
		t.Errorf("%d sessions are noted", n)
	}
}

func TestNothingButATimerOfMoodlesPagesIsNoUse(t *testing.T) {
	const timer = "/lib/ajax/service.php?sesskey=x&info=core_session_time_remaining"
	for target, used := range map[string]int{
		timer + "&nosessionupdate=true": 0,
		timer:                           1,
		timer + "&nosessionupdate=":     1,
		timer + "&nosessionupdate=true&nosessionupdate=0":        1, // PHP takes the last
		timer + "&nosessionupdate=true&%6eosessionupdate=":       1,
		timer + "&nosessionupdate=true&+nosessionupdate%00x=":    1,
		timer + "&xnosessionupdate=true":                         1,
		"/my/?nosessionupdate=true":                              1,
		"/my/?x=y&nosessionupdate=true":                          1, // it is one to Moodle, which would live on unseen
		"/lib/ajax/service.php/x?sesskey=x&nosessionupdate=true": 1,
	} {
		w := watch(t)
		w.uses(adas, target, "")
		if n := sp.UsedForTest(w.Visits); n != used {
			t.Errorf("%s: %d uses", target, n)
		}
	}
}
