package idp_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
	"jumpgate/idp"
)

const chrome = "Mozilla/5.0 (another)"

func uaHash(userAgent string) string {
	sum := sha1.Sum([]byte(userAgent))
	return hex.EncodeToString(sum[:])
}

// ends notes what a home was asked to end, and what became of it.
type ends struct {
	mu      sync.Mutex
	said    []string
	touched []moodle.Owned

	call     func(peer *gateway.Peer) (mnet.Value, error)
	logout   error
	children *mnet.Children
}

func (e *ends) say(parts ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said = append(e.said, strings.Join(parts, " "))
}

// want waits for the background and compares what was said, in any order.
func (e *ends) want(t *testing.T, want ...string) {
	t.Helper()
	e.children.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	slices.Sort(e.said)
	slices.Sort(want)
	if diff := cmp.Diff(want, e.said); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	e.said = nil
}

// observed makes a home whose peers and Moodle answer as told.
func observed(t *testing.T) (*home, *ends) {
	t.Helper()
	h, e := newHome(t, store.Limits{}), &ends{}
	o := h.Options
	e.children = mnet.NewChildren(func(l mnet.Logout) {
		e.say("outcome:", l.At.Hostname(), l.Username, l.Cause, l.Outcome)
	}, nil)
	o.Children = e.children
	o.Call = func(_ context.Context, peer *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
		e.say(method, "at", peer.Wwwroot.Hostname(), mnet.Text(params[0]), mnet.Text(params[1]))
		if e.call != nil {
			return e.call(peer)
		}
		return true, nil
	}
	o.Logout = func(_ context.Context, b moodle.Browser, userID int64) error {
		e.say("logout of", b.Session, string(rune('0'+userID)))
		return e.logout
	}
	o.Touch = func(_ context.Context, sessions []moodle.Owned) error {
		e.touched = append(e.touched, sessions...)
		return nil
	}
	h.Provider = idp.New(o)
	return h, e
}

// lands takes ada from home to a peer.
func (h *home) lands(t *testing.T, peer, userAgent, session string) {
	t.Helper()
	seal := h.Options
	g := store.Grant{User: ada, Peer: h.Peers.Find(peer).Wwwroot, UserAgent: uaHash(userAgent),
		Home: idp.SealForTest(seal.Secrets, session, seal.Site, ada.Username), HomeHash: store.HomeHash(session)}
	token, err := h.state.Mint(t.Context(), g)
	if err == nil {
		_, err = h.state.Redeem(t.Context(), [32]byte([]byte(token[:32])), token, store.Redeemer{Peer: g.Peer, UserAgent: g.UserAgent, Life: 8 * time.Hour})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// asks calls a method as a peer does.
func (h *home) asks(t *testing.T, peer, method string, params ...mnet.Value) (mnet.Value, error) {
	t.Helper()
	methods := h.Methods()
	i := slices.IndexFunc(methods, func(m mnet.Method) bool { return m.Name == "auth/mnet/auth.php/"+method })
	if i < 0 || methods[i].Service != gateway.ServiceSSOIDP || methods[i].MinParams != len(params) {
		t.Fatalf("method %s is not as it should be", method)
	}
	return methods[i].Call(t.Context(), &mnet.Call{Peer: h.Peers.Find(peer), Params: params})
}

const kill = "auth/mnet/auth.php/kill_child at "

func TestALogoutAtAPeerEndsTheOtherSessionsOfTheBrowser(t *testing.T) {
	h, e := observed(t)
	h.lands(t, "sp.test", firefox, adas)
	h.lands(t, "mahara.test", firefox, adas)
	h.lands(t, "sp.test", chrome, workers)
	report, err := h.asks(t, "sp.test", "kill_children", "ada", uaHash(firefox))
	if report != "Deleting session\n" || err != nil {
		t.Errorf("answered %q, %v", report, err)
	}
	e.want(t, kill+"mahara.test ada "+uaHash(firefox), "outcome: mahara.test ada peer ended",
		"logout of "+adas+" 3", "outcome: home.test ada peer ended")
	if got := h.source.forgot.Load(); got == nil || *got != adas {
		t.Error("who the session was of is not forgotten")
	}
	if live, _, err := h.state.SessionAt(t.Context(), h.Peers.Find("sp.test").Wwwroot, "ada"); !live || err != nil {
		t.Errorf("the other browser's session lives %t, %v", live, err)
	}
	report, err = h.asks(t, "sp.test", "kill_children", "ada", uaHash(firefox))
	if report != "Could find no remote sessions\n" || err != nil {
		t.Errorf("the second time answered %q, %v", report, err)
	}
	e.want(t)
}

func TestAPeerThatHasMovedKeepsAndEndsWhatBeganUnderItsOldName(t *testing.T) {
	h, e := observed(t)
	h.lands(t, "sp.test", firefox, adas)
	former := h.Peers.Find("sp.test").Wwwroot
	moved := *h.Peers.Find("sp.test")
	moved.Wwwroot, moved.Aliases = wwwroot(t, "https://new.test"), []gateway.Wwwroot{former}
	o := h.Options
	var err error
	if o.Peers, err = gateway.NewAllowlist(&moved, h.Peers.Find("mahara.test")); err != nil {
		t.Fatal(err)
	}
	h.Provider, h.Peers = idp.New(o), o.Peers
	h.lands(t, "mahara.test", firefox, adas)
	h.now = h.now.Add(2 * time.Hour)
	got, err := h.asks(t, "https://new.test", "keepalive_server", mnet.Array{"ada", "bob"})
	if message, _ := got.(mnet.Struct).Get("message"); err != nil || message != "We failed to refresh the session for the following usernames: \nbob\n\n" {
		t.Errorf("%v, %v", got, err)
	}
	if diff := cmp.Diff([]moodle.Owned{{Session: adas, UserID: 3}}, e.touched); diff != "" {
		t.Errorf("touched (-want +got)\n%s", diff)
	}
	report, err := h.asks(t, "https://new.test", "kill_children", "ada", uaHash(firefox))
	if report != "Deleting session\n" || err != nil {
		t.Errorf("answered %q, %v", report, err)
	}
	e.want(t, kill+"mahara.test ada "+uaHash(firefox), "outcome: mahara.test ada peer ended",
		"logout of "+adas+" 3", "outcome: home.test ada peer ended")
	if report, err = h.asks(t, "https://new.test", "kill_children", "ada", uaHash(firefox)); report != "Could find no remote sessions\n" || err != nil {
		t.Errorf("the second time answered %q, %v", report, err)
	}
}

// TestAPeerThatHasMovedKeepsSessionsUnderAllOfItsNames: of one browser from before,
// and of another from afterwards.
func TestAPeerThatHasMovedKeepsSessionsUnderAllOfItsNames(t *testing.T) {
	for _, ended := range []bool{false, true} {
		h, e := observed(t)
		h.lands(t, "sp.test", firefox, adas)
		former := h.Peers.Find("sp.test").Wwwroot
		moved := *h.Peers.Find("sp.test")
		moved.Wwwroot, moved.Aliases = wwwroot(t, "https://new.test"), []gateway.Wwwroot{former}
		o := h.Options
		var err error
		if o.Peers, err = gateway.NewAllowlist(&moved); err != nil {
			t.Fatal(err)
		}
		h.Provider, h.Peers = idp.New(o), o.Peers
		const adasLater = "laterlaterlaterlaterlaterla"
		h.lands(t, "new.test", chrome, adasLater)
		h.now = h.now.Add(2 * time.Hour)
		want := []moodle.Owned{{Session: adasLater, UserID: 3}, {Session: adas, UserID: 3}}
		if ended {
			if _, err := h.asks(t, "https://new.test", "kill_children", "ada", uaHash(chrome)); err != nil {
				t.Fatal(err)
			}
			want = want[1:]
		}
		got, err := h.asks(t, "https://new.test", "keepalive_server", mnet.Array{"bob", "ada", "bob"})
		if message, _ := got.(mnet.Struct).Get("message"); err != nil || message != "We failed to refresh the session for the following usernames: \nbob\n\n" {
			t.Errorf("%v, %v", got, err)
		}
		if diff := cmp.Diff(want, e.touched); diff != "" {
			t.Errorf("touched, one ended: %t (-want +got)\n%s", ended, diff)
		}
		h.now = h.now.Add(7 * time.Hour)
		if live, _, err := h.state.SessionAt(t.Context(), former, "ada"); !live || err != nil {
			t.Errorf("what began before lives %t, one ended: %t, %v", live, ended, err)
		}
	}
}

func TestALogoutAtTheOnlyPeerIsAnsweredAsMoodleDoes(t *testing.T) {
	h, e := observed(t)
	h.lands(t, "sp.test", firefox, adas)
	report, err := h.asks(t, "sp.test", "kill_children", "ada", uaHash(firefox))
	if report != "" || err != nil { // as in the capture
		t.Errorf("answered %q, %v", report, err)
	}
	e.want(t, "logout of "+adas+" 3", "outcome: home.test ada peer ended")
}

func TestAPeerEndsNothingThatIsNotItsOwn(t *testing.T) {
	for _, test := range []struct{ name, peer, username, userAgent string }{
		{"another learner", "sp.test", "bob", uaHash(firefox)},
		{"another browser", "sp.test", "ada", uaHash(chrome)},
		{"no browser", "sp.test", "ada", ""},
		{"a peer without the learner", "mahara.test", "ada", uaHash(firefox)},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, e := observed(t)
			h.lands(t, "sp.test", firefox, adas)
			report, err := h.asks(t, test.peer, "kill_children", test.username, test.userAgent)
			if on, ok := errors.AsType[*mnet.PassOn](err); ok { // perhaps Moodle knows of one
				report, err = on.Else, nil
			}
			if report != "Could find no remote sessions\n" || err != nil {
				t.Errorf("answered %q, %v", report, err)
			}
			e.want(t)
			if live, _, _ := h.state.SessionAt(t.Context(), h.Peers.Find("sp.test").Wwwroot, "ada"); !live {
				t.Error("it ended")
			}
		})
	}
}

func TestWhenMoodleDoesNotLogOutThatIsTold(t *testing.T) {
	h, e := observed(t)
	e.logout = errors.New("the session is user 4's, not user 3's")
	h.lands(t, "sp.test", firefox, adas)
	if report, err := h.asks(t, "sp.test", "kill_children", "ada", uaHash(firefox)); report != "" || err != nil {
		t.Errorf("answered %q, %v", report, err)
	}
	e.want(t, "logout of "+adas+" 3", "outcome: home.test ada peer failed")
}

// patient lets a home try again, without pauses.
func (h *home) patient(e *ends, tries int) {
	o := h.Options
	o.Children = mnet.NewChildren(func(l mnet.Logout) {
		e.say("outcome:", l.At.Hostname(), l.Outcome, "after", strconv.Itoa(l.Tries))
	}, make([]time.Duration, tries-1))
	e.children = o.Children
	h.Provider = idp.New(o)
}

func TestAMoodleThatDoesNotLogOutIsAskedAgain(t *testing.T) {
	for _, test := range []struct {
		name  string
		fails int
		want  []string
	}{
		{"back at once", 1, []string{"logout", "logout", "outcome: home.test ended after 2"}},
		{"back in the end", 2, []string{"logout", "logout", "logout", "outcome: home.test ended after 3"}},
		{"dead", 9, []string{"logout", "logout", "logout", "outcome: home.test failed after 3"}},
	} {
		for who, end := range map[string]func(*home) error{
			"a peer": func(h *home) error {
				_, err := h.asks(t, "sp.test", "kill_children", "ada", uaHash(firefox))
				return err
			},
			"an administrator": func(h *home) error { return h.EndSessions(t.Context(), "ada") },
		} {
			t.Run(test.name+" for "+who, func(t *testing.T) {
				h, e := observed(t)
				h.patient(e, 3)
				fails := test.fails
				o := h.Options
				o.Call = func(context.Context, *gateway.Peer, string, ...mnet.Value) (mnet.Value, error) { return true, nil }
				o.Logout = func(context.Context, moodle.Browser, int64) error {
					e.say("logout")
					if fails--; fails >= 0 {
						return errors.New("status 503")
					}
					return nil
				}
				h.Provider = idp.New(o)
				h.lands(t, "sp.test", firefox, adas)
				if err := end(h); err != nil {
					t.Error(err)
				}
				want := test.want
				if who == "an administrator" {
					want = append(slices.Clone(want), "outcome: sp.test ended after 1")
				}
				e.want(t, want...)
			})
		}
	}
}

// outage lets Redis answer nothing for a few commands.
type outage struct {
	trips
	left atomic.Int32
}

func (o *outage) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if o.left.Add(-1) >= 0 {
			cmd.SetErr(io.ErrUnexpectedEOF)
			return io.ErrUnexpectedEOF
		}
		return next(ctx, cmd)
	}
}

func TestALogoutThatRedisDidNotHearOfIsToldAgain(t *testing.T) {
	h, e := observed(t)
	h.patient(e, 3)
	out := &outage{}
	h.redis.Client().AddHook(out)
	h.lands(t, "sp.test", firefox, adas)
	logout := func() {
		r := browser{"MoodleSession": adas}.request("GET", login)
		if err := h.Watch(r, &http.Response{StatusCode: 303, Header: redirect("MoodleSession=" + anonymous)}); err != nil {
			t.Error(err)
		}
	}
	out.left.Store(2)
	logout()
	e.want(t, kill+"sp.test ada "+uaHash(firefox), "outcome: sp.test ended after 1")
	out.left.Store(3)
	logout()
	e.want(t, "outcome:  unknown after 3")
}

func TestASessionThatNoKeyOpensIsLeftAlone(t *testing.T) {
	h, e := observed(t)
	h.lands(t, "sp.test", firefox, adas)
	o := h.Options
	o.Secrets = func() [][32]byte { return [][32]byte{{9}} }
	h.Provider = idp.New(o)
	if _, err := h.asks(t, "sp.test", "kill_children", "ada", uaHash(firefox)); err != nil {
		t.Error(err)
	}
	e.want(t, "outcome: home.test ada peer failed")
}

func TestASessionThatEndsAtHomeEndsAtPeers(t *testing.T) {
	const logout = "https://home.test/moodle/login/logout.php"
	both := []string{
		kill + "sp.test ada " + uaHash(firefox), "outcome: sp.test ada home ended",
		kill + "mahara.test ada " + uaHash(firefox), "outcome: mahara.test ada home ended",
	}
	for _, test := range []struct {
		name, session, target string
		header                http.Header
		want                  []string
		trips                 int32 // to Redis, if nothing ends
	}{
		{"a logout", adas, logout, redirect("MoodleSession=" + anonymous), both, 0},
		{"a logout that deletes the cookie", adas, logout, redirect("MoodleSession=deleted; Max-Age=0"), both, 0},
		{"a session that timed out", adas, "https://home.test/moodle/my/", redirect("MoodleSession=" + anonymous), both, 0},
		{"a login over another", adas, login, redirect("MoodleSession=" + guests), both, 0},
		{"a logout that was not confirmed", adas, logout, page(), nil, 0},
		{"a page", adas, "https://home.test/moodle/my/", page(), nil, 0},
		{"the same session once more", adas, "https://home.test/moodle/my/", redirect("MoodleSession=" + adas), nil, 0},
		{"log in as", adas, "https://home.test/moodle/course/loginas.php?user=3", redirect(), nil, 0},
		{"another cookie", adas, logout, redirect("MOODLEID1_=x"), nil, 0},
		{"a login", anonymous, login, redirect("MoodleSession=" + adas), nil, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, e := observed(t)
			h.lands(t, "sp.test", firefox, adas)
			h.lands(t, "mahara.test", firefox, adas)
			h.lands(t, "sp.test", chrome, workers)
			h.state.EndHomeSession(t.Context(), h.state.Ending("warm")) // Redis learns the script
			r := browser{"MoodleSession": test.session}.request("GET", test.target)
			if !h.Watches(r) {
				t.Fatal("is not watched")
			}
			before := h.trips.n.Load()
			gone, cancel := context.WithCancel(t.Context())
			cancel() // the learner does not wait
			if err := h.Watch(r.WithContext(gone), &http.Response{StatusCode: 303, Header: test.header}); err != nil {
				t.Fatal(err)
			}
			e.want(t, test.want...)
			if trips := h.trips.n.Load() - before; trips != test.trips && len(test.want) == 0 {
				t.Errorf("%d round trips, want %d", trips, test.trips)
			}
		})
	}
}

func TestARequestWithoutASessionIsNotWatched(t *testing.T) {
	h := newHome(t, store.Limits{})
	for _, b := range []browser{{}, {"MOODLEID1_": "x"}, {"MoodleSession": "x"}} {
		if h.Watches(b.request("GET", login)) {
			t.Errorf("%v is watched", b)
		}
	}
}

func TestPagesThatNobodyWaitsForCostNoAllocation(t *testing.T) {
	const cookies = "MOODLEID1_=x; _ga=GA1.2.3.4; __Host-jumpgate-other-0123456789abcdef=x"
	long := func(_ *home, o *idp.Options) { o.Cookie = "MoodleSession" + strings.Repeat("x", 40) }
	for name, p := range map[string]*idp.Provider{
		"Moodle's accounts": newHome(t, store.Limits{}, long).Provider, "a provider's": newCollege(t).Provider,
	} {
		r := httptest.NewRequest("GET", "https://home.test/moodle/", nil)
		r.Header["Cookie"] = []string{cookies}
		if n := testing.AllocsPerRun(100, func() {
			if p.Expects(r) || p.Watches(r) {
				t.Error("it is waited for")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestADeadPeerDoesNotHoldUpALogout(t *testing.T) {
	h, e := observed(t)
	h.lands(t, "sp.test", firefox, adas)
	stuck := make(chan struct{})
	e.call = func(*gateway.Peer) (mnet.Value, error) { <-stuck; return nil, errors.New("timed out") }
	r := browser{"MoodleSession": adas}.request("GET", login)
	if err := h.Watch(r, &http.Response{StatusCode: 303, Header: redirect("MoodleSession=" + anonymous)}); err != nil {
		t.Error(err)
	}
	close(stuck) // what waited for the peer would never come here
	e.want(t, kill+"sp.test ada "+uaHash(firefox), "outcome: sp.test ada home failed")
}

func TestALateTryDoesNotEndTheNextSession(t *testing.T) {
	h, e := observed(t)
	o := h.Options
	o.Children = mnet.NewChildren(func(l mnet.Logout) { e.say("outcome:", l.At.Hostname(), l.Outcome) }, []time.Duration{0, 0})
	e.children = o.Children
	h.Provider = idp.New(o)
	h.lands(t, "sp.test", firefox, adas)
	e.call = func(*gateway.Peer) (mnet.Value, error) {
		h.lands(t, "sp.test", firefox, workers) // meanwhile the learner is back
		return nil, errors.New("timed out")
	}
	r := browser{"MoodleSession": adas}.request("GET", login)
	if err := h.Watch(r, &http.Response{StatusCode: 303, Header: redirect("MoodleSession=" + anonymous)}); err != nil {
		t.Error(err)
	}
	e.want(t, kill+"sp.test ada "+uaHash(firefox), "outcome: sp.test again")
}

func TestAPeerThatDoesNotLetUsCallIsNotCalled(t *testing.T) {
	h, e := observed(t)
	h.lands(t, "sp.test", firefox, adas)
	h.lands(t, "mahara.test", firefox, adas)
	o := h.Options
	peers, err := gateway.NewAllowlist(&gateway.Peer{Wwwroot: wwwroot(t, "https://mahara.test"), Application: gateway.Mahara})
	if err != nil {
		t.Fatal(err)
	}
	o.Peers = peers
	h.Provider = idp.New(o)
	if err := h.EndSessions(t.Context(), "ada"); err != nil {
		t.Error(err)
	}
	e.want(t, "outcome: sp.test ada administrator not-subscribed", "outcome: mahara.test ada administrator not-subscribed",
		"logout of "+adas+" 3", "outcome: home.test ada administrator ended")
}

func TestAnAdministratorEndsAllSessionsOfALearner(t *testing.T) {
	h, e := observed(t)
	h.lands(t, "sp.test", firefox, adas)
	h.lands(t, "mahara.test", chrome, workers)
	e.call = func(*gateway.Peer) (mnet.Value, error) { return false, nil }
	if err := h.EndSessions(t.Context(), "ada"); err != nil {
		t.Error(err)
	}
	e.want(t, kill+"sp.test ada "+uaHash(firefox), "outcome: sp.test ada administrator none",
		kill+"mahara.test ada "+uaHash(chrome), "outcome: mahara.test ada administrator none",
		"logout of "+adas+" 3", "outcome: home.test ada administrator ended",
		"logout of "+workers+" 3", "outcome: home.test ada administrator ended")
	if err := h.EndSessions(t.Context(), "nobody"); err != nil {
		t.Error(err)
	}
	e.want(t)
}

func TestALogoutWhileRedisIsDownIsTold(t *testing.T) {
	h, e := observed(t)
	h.redis.Close()
	r := browser{"MoodleSession": adas}.request("GET", login)
	if err := h.Watch(r, &http.Response{StatusCode: 303, Header: redirect("MoodleSession=" + anonymous)}); err != nil {
		t.Error(err)
	}
	e.want(t, "outcome:   home unknown")
	if _, err := h.asks(t, "sp.test", "kill_children", "ada", uaHash(firefox)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a peer's logout: %v", err)
	}
}

func TestKeepaliveServer(t *testing.T) {
	answer := func(code int, message string) mnet.Struct {
		return mnet.Struct{{Name: "code", Value: code}, {Name: "message", Value: message}, {Name: "last log id", Value: "0"}}
	}
	const failed = "We failed to refresh the session for the following usernames: \n"
	for _, test := range []struct {
		name    string
		peer    string
		params  mnet.Value
		want    mnet.Struct
		touched []moodle.Owned
		lives   bool // nine hours after the landing
	}{
		{"a learner", "sp.test", mnet.Array{"ada"}, answer(0, "All ok"), []moodle.Owned{{Session: adas, UserID: 3}}, true},
		{"named twice", "sp.test", mnet.Array{"ada", "ada"}, answer(0, "All ok"), []moodle.Owned{{Session: adas, UserID: 3}}, true},
		{"nobody", "sp.test", mnet.Array{}, answer(0, "All ok"), nil, false},
		{"somebody else", "sp.test", mnet.Array{"bob"}, answer(1, failed+"bob\n\n"), nil, false},
		{"a learner and somebody else", "sp.test", mnet.Array{"ada", "bob"}, answer(1, failed+"bob\n\n"), []moodle.Owned{{Session: adas, UserID: 3}}, true},
		{"a learner of another peer", "mahara.test", mnet.Array{"ada"}, answer(1, failed+"ada\n\n"), nil, false},
		{"nothing that makes sense", "sp.test", "ada", answer(0, "All ok"), nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, e := observed(t)
			h.lands(t, "sp.test", firefox, adas)
			h.now = h.now.Add(2 * time.Hour)
			got, err := h.asks(t, test.peer, "keepalive_server", test.params)
			if diff := cmp.Diff(mnet.Value(test.want), got); diff != "" || err != nil {
				t.Errorf("(-want +got) %v\n%s", err, diff)
			}
			if diff := cmp.Diff(test.touched, e.touched); diff != "" {
				t.Errorf("touched (-want +got)\n%s", diff)
			}
			h.now = h.now.Add(7 * time.Hour)
			if live, _, err := h.state.SessionAt(t.Context(), h.Peers.Find("sp.test").Wwwroot, "ada"); live != test.lives || err != nil {
				t.Errorf("lives %t, %v", live, err)
			}
		})
	}
}

func TestKeepaliveWithoutTouching(t *testing.T) {
	h, _ := observed(t)
	h.lands(t, "sp.test", firefox, adas)
	for name, touch := range map[string]func(context.Context, []moodle.Owned) error{
		"not wanted": nil,
		"failing":    func(context.Context, []moodle.Owned) error { return errors.New("NOPERM") },
	} {
		o := h.Options
		o.Touch = touch
		h.Provider = idp.New(o)
		got, err := h.asks(t, "sp.test", "keepalive_server", mnet.Array{"ada"})
		if code, _ := got.(mnet.Struct).Get("code"); code != 0 || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestALaterLandingAtAMoodleEndsTheOneBefore(t *testing.T) {
	h, e := observed(t)
	redeem := func(peer string, nonce byte) {
		t.Helper()
		token, _ := landing(t, h.jump(browser{"MoodleSession": adas}, "/x"))
		if _, err := h.redeem(t, peer, token, firefox, nonce); err != nil {
			t.Error(err)
		}
	}
	redeem("sp.test", 1)
	e.want(t)
	redeem("sp.test", 2)
	e.want(t, "auth/mnet/auth.php/kill_child at sp.test ada "+uaHash(firefox))
	e.call = func(*gateway.Peer) (mnet.Value, error) { return nil, errors.New("it is down") }
	redeem("sp.test", 3) // and the learner lands all the same
	e.want(t, "auth/mnet/auth.php/kill_child at sp.test ada "+uaHash(firefox))
}

func TestAnAdministratorEndsWhatCouldNotBeEndedBefore(t *testing.T) {
	h, e := observed(t)
	h.lands(t, "sp.test", firefox, adas)
	e.call = func(*gateway.Peer) (mnet.Value, error) { return nil, errors.New("it is down") }
	kill := "auth/mnet/auth.php/kill_child at sp.test ada " + uaHash(firefox)
	if err := h.EndSessions(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	e.want(t, kill, "logout of "+adas+" 3", "outcome: home.test ada administrator ended", "outcome: sp.test ada administrator failed")
	e.call = nil
	if err := h.EndSessions(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	e.want(t, kill, "logout of "+adas+" 3", "outcome: home.test ada administrator ended", "outcome: sp.test ada administrator ended")
	if err := h.EndSessions(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	e.want(t)
}

func TestALogoutAtAPeerOfALandingThatWasMoodlesIsPassedOn(t *testing.T) {
	h, _ := observed(t)
	_, err := h.asks(t, "sp.test", "kill_children", "ada", uaHash(firefox))
	if on, ok := errors.AsType[*mnet.PassOn](err); !ok || on.Else != "Could find no remote sessions\n" {
		t.Errorf("%v", err)
	}
}
