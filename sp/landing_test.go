package sp_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/sp"
)

// known says whose sessions are.
type known map[string]gateway.Identity

var errDown = errors.New("redis does not answer")

func (k known) Identity(_ context.Context, b moodle.Browser) (gateway.Identity, error) {
	if b.Session == downs {
		return gateway.Identity{}, errDown
	}
	return k[b.Session], nil
}

// marks remembers what was used, and for how long.
type marks map[[32]byte]time.Duration

func (m marks) Replayed(ctx context.Context, nonce [32]byte) (bool, error) {
	return m.ReplayedWithin(ctx, nonce, 24*time.Hour)
}

func (m marks) ReplayedWithin(_ context.Context, nonce [32]byte, life time.Duration) (bool, error) {
	if m == nil {
		return false, errDown
	}
	if _, was := m[nonce]; was {
		return true, nil
	}
	m[nonce] = life
	return false, nil
}

const (
	adas, bobs   = "adaadaadaadaadaadaadaadaad", "bobbobbobbobbobbobbobbobbo"
	adasNext     = "nextnextnextnextnextnextne"
	anonymous    = "nobodynobodynobodynobodyno"
	guests       = "guestguestguestguestguestg"
	wornAdas     = "wornwornwornwornwornwornwo"
	wornGuests   = "wornguestwornguestwornguest"
	halfAdas     = "halfhalfhalfhalfhalfhalfha"
	halfUnknowns = "whowhowhowhowhowhowhowhowh"
	downs        = "downdowndowndowndowndowndo"
)

func account(id int64, username, first, last string) gateway.Identity {
	return gateway.Identity{User: gateway.User{ID: id, Username: username, FirstName: first, LastName: last}, Remote: true}
}

type forum struct {
	*sp.Landings
	now time.Time
}

func newForum(t *testing.T) *forum {
	ada, bob := account(7, "ada", "Ada", "Lovelace"), account(8, "bob", "Bob", "Builder")
	worn, half, guest := ada, ada, account(1, "guest", "Guest", "")
	worn.LoginAs, half.MFAPending, guest.Guest = true, true, true
	wornGuest := guest
	wornGuest.LoginAs = true
	f := &forum{now: time.Unix(1795336536, 0)}
	peers, err := gateway.NewAllowlist(&gateway.Peer{Wwwroot: wwwroot(t, "https://home.test"), Application: gateway.Moodle})
	if err != nil {
		t.Fatal(err)
	}
	f.Landings = &sp.Landings{
		Site: wwwroot(t, "https://forum.test"), Names: []gateway.Wwwroot{wwwroot(t, "https://old.test")}, Peers: peers, Cookie: "MoodleSession",
		Source: known{adas: ada, adasNext: ada, bobs: bob, guests: guest, wornAdas: worn, wornGuests: wornGuest, halfAdas: half, halfUnknowns: {MFAPending: true}},
		Once:   marks{}, Seal: func() [][32]byte { return [][32]byte{{1}} },
		Client: func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		Spend:  func(context.Context, netip.Addr) error { return nil },
		Now:    func() time.Time { return f.now },
	}
	return f
}

const landing = "https://forum.test/auth/mnet/land.php?token=abc&idp=https://home.test&wantsurl=%2Fmod%2Fx%23p3"

func visit(method, target, session string, body ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(strings.Join(body, "")))
	if session != "" {
		r.AddCookie(&http.Cookie{Name: "MoodleSession", Value: session})
	}
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	return r
}

// answered is what Moodle says with a new session, or none.
func answered(status int, session string, more ...string) *http.Response {
	res := &http.Response{StatusCode: status, Header: http.Header{"Location": {"https://forum.test/mod/x#p3"}}}
	for _, cookie := range more {
		res.Header.Add("Set-Cookie", cookie)
	}
	if session != "" {
		res.Header.Add("Set-Cookie", "MoodleSession="+session+"; path=/; HttpOnly")
	}
	return res
}

func TestWhatBecomesOfALanding(t *testing.T) {
	for _, test := range []struct {
		name           string
		before, after  string // sessions
		status         int
		outcome        string
		cookies, keeps int // that the answer has afterwards; 1 if Moodle must not see the session
	}{
		{"without a cookie", "", adas, 303, sp.OutcomeLanded, 2, 0},
		{"with an anonymous session", anonymous, adas, 302, sp.OutcomeLanded, 2, 0},
		{"as a guest", guests, adas, 303, sp.OutcomeLanded, 2, 0},
		{"without a cookie, and Moodle refuses", "", anonymous, 404, sp.OutcomeFailed, 2, 0},
		{"with an anonymous session, and it is not known whose the new one is", anonymous, downs, 303, sp.OutcomeLanded, 2, 0},
		{"with an anonymous session, and the new one is nobody's either", anonymous, adasNext + "xx", 303, sp.OutcomeFailed, 1, 0},
		{"without a cookie, and Moodle refuses, nobody knows in whose session", "", downs, 404, sp.OutcomeFailed, 2, 0},
		{"without a cookie, and Moodle says nothing", "", "", 303, sp.OutcomeFailed, 1, 0},
		{"with the same account", adas, adasNext, 303, sp.OutcomeSame, 2, 1},
		{"with the same account that waits for a factor", adas, halfAdas, 303, sp.OutcomeSame, 2, 1},
		{"with another account", adas, bobs, 303, sp.OutcomeAsked, 2, 1},
		{"with another account, on a page", adas, bobs, 200, sp.OutcomeAsked, 2, 1},
		{"as an administrator who wears the account", wornAdas, adas, 303, sp.OutcomeAsked, 2, 1},
		{"as an administrator who wears the guest account", wornGuests, adas, 303, sp.OutcomeAsked, 2, 1},
		{"in the middle of a login", halfAdas, bobs, 303, sp.OutcomeAsked, 2, 1},
		{"in the middle of a login of nobody knows whom", halfUnknowns, adas, 303, sp.OutcomeAsked, 2, 1},
		{"with an account that nobody knows", adas, halfUnknowns, 303, sp.OutcomeAsked, 2, 1},
		{"and Moodle refuses", adas, anonymous, 404, sp.OutcomeFailed, 1, 1},
		{"and Moodle sends them to the login", adas, anonymous, 303, sp.OutcomeFailed, 1, 1},
		{"and Moodle deletes the cookie", adas, "deleted", 303, sp.OutcomeFailed, 1, 1},
		{"and Moodle says nothing", adas, "", 303, sp.OutcomeFailed, 1, 1},
		{"and Redis goes down", adas, downs, 303, sp.OutcomeUnsure, 2, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newForum(t)
			r := visit("GET", landing, test.before)
			a := f.Arrive(r)
			if a.Final() || a.Keeps() != (test.keeps == 1) || a.Target.URL() != "https://forum.test/mod/x#p3" || a.Home.Wwwroot.String() != "https://home.test" {
				t.Fatalf("%+v", a)
			}
			if ask := f.Ask(a); ask != "/auth/mnet/land.php?token=abc&idp=https%3A%2F%2Fhome.test&wantsurl=%2Fmod%2Fx%23p3" {
				t.Errorf("Moodle is asked for %s", ask)
			}
			res := answered(test.status, test.after, "other=1")
			a = f.Judge(r, a, res)
			if a.Outcome != test.outcome || (a.Err != nil) != (test.outcome == sp.OutcomeUnsure) || (a.Question != nil) != (test.outcome == sp.OutcomeAsked) {
				t.Errorf("%+v", a)
			}
			if got := res.Header["Set-Cookie"]; len(got) != test.cookies || got[0] != "other=1" {
				t.Errorf("cookies %q", got)
			}
		})
	}
}

// TestMoodleLogsInWhoIsSuspended: its plugin does not look. A Moodle that shows
// notices sends a page in place of its redirect.
func TestMoodleLogsInWhoIsSuspended(t *testing.T) {
	for _, before := range []string{"", anonymous, adas, bobs} {
		for _, status := range []int{303, 200} {
			f := newForum(t)
			gone := account(8, "bob", "Bob", "Builder")
			gone.User.Suspended = true
			f.Source.(known)[adasNext] = gone
			r := visit("GET", landing, before)
			a := f.Judge(r, f.Arrive(r), answered(status, adasNext))
			if !a.Refused || a.Rule != gateway.RuleAccountRefused || a.Outcome != "" || a.Question != nil || a.Err != nil || a.Cause == nil || strings.Contains(a.Cause.Error(), adasNext) {
				t.Errorf("in session %q, with status %d: %+v", before, status, a)
			}
		}
	}
}

func TestALandingThatIsRefusedAsksNobody(t *testing.T) {
	for _, test := range []struct {
		name, target string
		change       func(*http.Request)
		rule         gateway.Rule
	}{
		{"an unknown home", strings.Replace(landing, "home.test", "evil.test", 1), nil, gateway.RulePeerUnknown},
		{"no home", strings.Replace(landing, "idp", "x", 1), nil, gateway.RulePeerMissing},
		{"two homes", landing + "&idp=https://home.test", nil, gateway.RuleRepeated},
		{"a foreign page", landing[:strings.Index(landing, "%2F")] + "//evil.test", nil, gateway.RuleSchemeRelative},
		{"a picture", landing, func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "image") }, gateway.RuleNotNavigation},
		{"a frame", landing, func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "iframe") }, gateway.RuleNotNavigation},
		{"a prefetch", landing, func(r *http.Request) { r.Header.Set("Sec-Purpose", "prefetch") }, gateway.RuleNotNavigation},
	} {
		for _, session := range []string{"", downs} { // who is asked answers with an error
			r := visit("GET", test.target, session)
			if test.change != nil {
				test.change(r)
			}
			if a := newForum(t).Arrive(r); !a.Refused || a.Rule != test.rule || !a.Final() || a.Err != nil || a.Target.URL() != "" {
				t.Errorf("%s: %+v", test.name, a)
			}
		}
	}
	if a := newForum(t).Arrive(visit("HEAD", landing, downs)); a.Outcome != sp.OutcomeHead || !a.Final() || a.Err != nil {
		t.Errorf("a HEAD: %+v", a)
	}
	if a := newForum(t).Arrive(visit("GET", landing, downs)); !errors.Is(a.Err, errDown) || !a.Final() {
		t.Errorf("who is logged in is not known: %+v", a)
	}
	r := visit("GET", landing, "")
	r.AddCookie(&http.Cookie{Name: "MoodleSessionforum", Value: adas})
	if a := newForum(t).Arrive(r); !strings.Contains(a.Hint, "MoodleSessionforum") || a.Final() {
		t.Errorf("another cookie: %+v", a)
	}
}

// asks lets Ada follow a link of Bob's.
func (f *forum) asks(t *testing.T, target string, more ...string) *sp.Question {
	t.Helper()
	r := visit("GET", target, adas)
	a := f.Judge(r, f.Arrive(r), answered(303, bobs, more...))
	if a.Question == nil || a.Question.Present != "Ada Lovelace" || a.Question.Newcomer != "Bob Builder" || a.Username != "ada" || a.Newcomer != "bob" {
		t.Fatalf("%+v", a)
	}
	return a.Question
}

func answer(q *sp.Question, session, what string) *http.Request {
	return visit("POST", "https://forum.test/jumpgate/switch", session, url.Values{"landing": {q.Ticket}, "answer": {what}}.Encode())
}

func TestAnAnswerCountsOnceInItsSession(t *testing.T) {
	remote := landing + "&remoteurl=1"
	for _, test := range []struct {
		name    string
		target  string
		change  func(*forum, *sp.Question, *http.Request) *http.Request
		answer  string
		outcome string
		rule    gateway.Rule // that refuses
		to      string
		cookies int
	}{
		{"switch", landing, nil, "switch", sp.OutcomeSwitched, "", "https://forum.test/mod/x#p3", 2},
		{"stay", landing, nil, "stay", sp.OutcomeStayed, "", "https://forum.test/mod/x#p3", 0},
		{"switch, back to the home", remote, nil, "switch", sp.OutcomeSwitched, "", "https://home.test/mod/x#p3", 2},
		{"stay, instead of back to the home", remote, nil, "stay", sp.OutcomeStayed, "", "https://forum.test/", 0},
		{"neither", landing, nil, "x", "", gateway.RuleConfirmOver, "", 0},
		{"too late", landing, func(f *forum, _ *sp.Question, r *http.Request) *http.Request {
			f.now = f.now.Add(5 * time.Minute)
			return r
		}, "switch", "", gateway.RuleConfirmOver, "", 0},
		{"in a frame", landing, func(_ *forum, _ *sp.Question, r *http.Request) *http.Request {
			r.Header.Set("Sec-Fetch-Dest", "iframe")
			return r
		}, "switch", "", gateway.RuleNotNavigation, "", 0},
		{"in another session of the same account", landing, func(_ *forum, q *sp.Question, _ *http.Request) *http.Request {
			return answer(q, adasNext, "switch")
		}, "switch", "", gateway.RuleConfirmOver, "", 0},
		{"in another account's", landing, func(_ *forum, q *sp.Question, _ *http.Request) *http.Request {
			return answer(q, bobs, "switch")
		}, "switch", "", gateway.RuleConfirmOver, "", 0},
		{"without a session", landing, func(_ *forum, q *sp.Question, _ *http.Request) *http.Request {
			return answer(q, "", "switch")
		}, "switch", "", gateway.RuleConfirmOver, "", 0},
		{"after the session has ended", landing, func(f *forum, _ *sp.Question, r *http.Request) *http.Request {
			f.Source = known{}
			return r
		}, "switch", "", gateway.RuleConfirmOver, "", 0},
		{"at another site with the same keys", landing, func(f *forum, _ *sp.Question, r *http.Request) *http.Request {
			f.Site = wwwroot(t, "https://forum2.test")
			return r
		}, "switch", "", gateway.RuleConfirmOver, "", 0},
		{"from a home that is none any more", landing, func(f *forum, _ *sp.Question, r *http.Request) *http.Request {
			f.Peers, _ = gateway.NewAllowlist()
			return r
		}, "switch", "", gateway.RulePeerUnknown, "", 0},
		{"of a form that is too large", landing, func(_ *forum, q *sp.Question, _ *http.Request) *http.Request {
			return answer(&sp.Question{Ticket: q.Ticket + strings.Repeat("x", 16<<10)}, adas, "switch")
		}, "switch", "", gateway.RuleConfirmOver, "", 0},
		{"without a ticket", landing, func(*forum, *sp.Question, *http.Request) *http.Request {
			return visit("POST", "https://forum.test/jumpgate/switch", adas, "answer=switch")
		}, "switch", "", gateway.RuleConfirmOver, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newForum(t)
			q := f.asks(t, test.target, "other=1")
			if want := map[bool]string{true: "https://home.test"}[test.target == remote]; q.Form != want {
				t.Errorf("the form leads to %q, want %q", q.Form, want)
			}
			r := answer(q, adas, test.answer)
			if test.change != nil {
				r = test.change(f, q, r)
			}
			a := f.Switch(httptest.NewRecorder(), r)
			if a.Outcome != test.outcome || a.Refused != (test.rule != "") || test.rule != "" && a.Rule != test.rule || a.Location != test.to || len(a.Cookies) != test.cookies || a.Err != nil {
				t.Errorf("%+v", a)
			}
			if test.rule != "" {
				return
			}
			for _, again := range []string{"switch", "stay"} {
				if a := f.Switch(httptest.NewRecorder(), answer(q, adas, again)); !a.Refused || a.Rule != gateway.RuleConfirmOver || len(a.Cookies) != 0 {
					t.Errorf("once more: %+v", a)
				}
			}
		})
	}
}

func TestAnAnswerWithoutRedisSwitchesNobody(t *testing.T) {
	f := newForum(t)
	q := f.asks(t, landing)
	f.Once = marks(nil)
	if a := f.Switch(httptest.NewRecorder(), answer(q, adas, "switch")); !errors.Is(a.Err, errDown) || a.Location != "" || a.Cookies != nil {
		t.Errorf("%+v", a)
	}
	if a := f.Switch(httptest.NewRecorder(), answer(q, downs, "switch")); !errors.Is(a.Err, errDown) || a.Location != "" || a.Cookies != nil {
		t.Errorf("who is logged in is not known: %+v", a)
	}
}

func TestATicketTellsNothingAndHoldsOnlySoMuch(t *testing.T) {
	f := newForum(t)
	if q := f.asks(t, landing, "sticky="+strings.Repeat("x", 4000)); strings.Contains(q.Ticket, bobs) || len(q.Ticket) > 12<<10 {
		t.Errorf("%d bytes: %s", len(q.Ticket), q.Ticket)
	}
	r := visit("GET", landing, adas)
	a := f.Judge(r, f.Arrive(r), answered(303, bobs, "sticky="+strings.Repeat("x", 4096)))
	if a.Outcome != sp.OutcomeUnsure || a.Err == nil || a.Question != nil || bytes.Contains([]byte(a.Err.Error()), []byte(bobs)) {
		t.Errorf("%+v", a)
	}
}

// A gateway that does not know the name of Moodle's session cookie does not
// know who is logged in either.
func TestALandingIsNotTakenUnderAnotherCookie(t *testing.T) {
	for _, test := range []struct {
		name, has, session, sets string
		outcome                  string
	}{
		{"the browser has it", "MoodleSessionforum", "", "MoodleSessionforum=" + bobs, sp.OutcomeUnsure},
		{"and somebody's session under the one that we know", "MoodleSessionforum", adas, "MoodleSessionforum=" + bobs, sp.OutcomeUnsure},
		{"the browser has none yet", "theme", "", "MoodleSessionforum=" + bobs, sp.OutcomeFailed},
		{"the browser has that of another Moodle", "MoodleSessionforum", "", "MoodleSession=" + bobs, sp.OutcomeLanded},
	} {
		f := newForum(t)
		r := visit("GET", landing, test.session)
		r.AddCookie(&http.Cookie{Name: test.has, Value: adas})
		a := f.Judge(r, f.Arrive(r), answered(303, "", test.sets+"; path=/"))
		if a.Outcome != test.outcome || (a.Err != nil) != (test.outcome == sp.OutcomeUnsure) {
			t.Errorf("%s: %s %v", test.name, a.Outcome, a.Err)
		}
		if a.Err != nil && (!strings.Contains(a.Err.Error(), "MoodleSessionforum") || strings.Contains(a.Err.Error(), bobs)) {
			t.Errorf("%s: %v", test.name, a.Err)
		}
	}
}
