package sp_test

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http/httpguts"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
	"jumpgate/sp"
)

// headerMoodle is a Moodle that logs in by headers, and the home that it is told
// about.
type headerMoodle struct {
	answer mnet.Value // of the home
	fault  error
	login  moodle.Login
	err    error
	rate   error
	has    bool
	hasErr error

	called     []mnet.Value // what the home was asked
	told       []gateway.User
	browser    moodle.Browser
	loggedOut  []int64
	hasAskedOf []string
}

func (m *headerMoodle) HeaderLogin(_ context.Context, b moodle.Browser, u gateway.User) (moodle.Login, error) {
	m.told, m.browser = append(m.told, u), b
	return m.login, m.err
}

func (m *headerMoodle) Logout(_ context.Context, b moodle.Browser, userID int64) error {
	m.loggedOut = append(m.loggedOut, userID)
	return nil
}

const (
	fresh       = "freshfreshfreshfreshfreshf" // session of ada@home.test
	freshHalf   = "fhalffhalffhalffhalffhalff" // the same, that lacks a factor
	freshBobs   = "fbobsfbobsfbobsfbobsfbobsf"
	freshNobody = "fnobodyfnobodyfnobodyfnobo"
)

func ada() mnet.Struct {
	return mnet.Struct{
		{Name: "auth", Value: "mnet"}, {Name: "username", Value: "ada"}, {Name: "firstname", Value: "Ada"}, {Name: "lastname", Value: "Lovelace"},
		{Name: "email", Value: "ada@home.test"}, {Name: "city", Value: "London"}, {Name: "country", Value: "gb"}, {Name: "lang", Value: "en_gb_utf8"},
		{Name: "myhosts", Value: mnet.Array{}},
	}
}

// with returns what the home says of ada with other fields.
func with(fields ...string) mnet.Struct {
	s := ada()
	for i := 0; i < len(fields); i += 2 {
		for j := range s {
			if s[j].Name == fields[i] {
				s[j].Value = fields[i+1]
			}
		}
	}
	return s
}

func newHeaderForum(t testing.TB, m *headerMoodle, change ...func(*gateway.Peer)) *forum {
	f := &forum{now: time.Unix(1795336536, 0)}
	home := &gateway.Peer{Wwwroot: wwwroot(t, "https://home.test"), Application: gateway.Moodle, Subscribe: []string{"sso_idp"}}
	for _, change := range change {
		change(home)
	}
	peers, err := gateway.NewAllowlist(home)
	if err != nil {
		t.Fatal(err)
	}
	names, err := gateway.ParseAccountNames(gateway.DefaultNames)
	if err != nil {
		t.Fatal(err)
	}
	mine := func(id int64, username, auth string) gateway.Identity {
		return gateway.Identity{User: gateway.User{ID: id, Username: username, Auth: auth, FirstName: "Ada", LastName: "Lovelace"}}
	}
	half, suspended, worn := mine(9, "ada@home.test", "shibboleth"), mine(9, "ada@home.test", "shibboleth"), mine(9, "ada@home.test", "shibboleth")
	half.MFAPending, suspended.User.Suspended, worn.LoginAs = true, true, true
	f.Landings = &sp.Landings{
		Site: wwwroot(t, "https://forum.test"), Peers: peers, Cookie: "MoodleSession",
		Source: known{
			fresh: mine(9, "ada@home.test", "shibboleth"), freshHalf: half, freshBobs: mine(8, "bob@home.test", "shibboleth"),
			adas: mine(9, "ada@home.test", "shibboleth"), bobs: mine(8, "bob@home.test", "shibboleth"), adasNext: mine(7, "ada@home.test", "manual"),
			halfAdas: suspended, wornAdas: worn,
		},
		Once: marks{}, Seal: func() [][32]byte { return [][32]byte{{1}} },
		Client: func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		Now:    func() time.Time { return f.now },
		Spend:  func(context.Context, netip.Addr) error { return m.rate },
		Logins: &sp.Logins{
			Names: names, Door: &sp.HeaderDoor{Moodle: m, Accounts: func(_ context.Context, field, value string) ([]moodle.Account, error) {
				m.hasAskedOf = append(m.hasAskedOf, value)
				accounts := []moodle.Account{{ID: 5, Username: value, Auth: "mnet"}, {ID: 6, Username: value, Auth: "manual"}, {ID: 8, Username: "bob@home.test", Auth: "shibboleth"}}
				if m.has && field == "username" {
					accounts = append(accounts, moodle.Account{ID: 9, Username: value, Auth: "shibboleth"})
				}
				return accounts, m.hasErr
			}},
			Call: func(ctx context.Context, home *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
				if _, limited := ctx.Deadline(); !limited {
					t.Error("the home may take as long as it likes")
				}
				m.called = append([]mnet.Value{home.Wwwroot.String(), method}, params...)
				return m.answer, m.fault
			},
			Visits: newVisits(t, peers),
		},
	}
	f.Logins.Visits.Logout = m.Logout
	return f
}

func (f *forum) lands(t testing.TB, session string) sp.Arrival {
	t.Helper()
	r := visit("GET", landing, session)
	r.Header.Set("User-Agent", "Mozilla/5.0 (ada)")
	a := f.Arrive(r)
	if a.Final() {
		t.Fatalf("%+v", a)
	}
	return f.LogIn(r, a)
}

var begun = moodle.Login{Session: fresh, Cookies: []string{"MoodleSession=" + fresh + "; path=/"}}

func TestALearnerIsLoggedInByHeaders(t *testing.T) {
	m := &headerMoodle{answer: ada(), login: begun}
	f := newHeaderForum(t, m)
	a := f.lands(t, "")
	if a.Outcome != sp.OutcomeLanded || a.Refused || a.Err != nil || a.Location != "https://forum.test/mod/x#p3" || a.Newcomer != "ada@home.test" {
		t.Errorf("%+v", a)
	}
	if diff := cmp.Diff(begun.Cookies, a.Cookies); diff != "" {
		t.Errorf("cookies (-want +got):\n%s", diff)
	}
	agent := sha1.Sum([]byte("Mozilla/5.0 (ada)"))
	if diff := cmp.Diff([]mnet.Value{"https://home.test", "auth/mnet/auth.php/user_authorise", "abc", hex.EncodeToString(agent[:])}, m.called); diff != "" {
		t.Errorf("the home was asked (-want +got):\n%s", diff)
	}
	want := []gateway.User{{Username: "ada@home.test", FirstName: "Ada", LastName: "Lovelace", Email: "ada@home.test", City: "London", Country: "GB", Lang: "en_gb"}}
	if diff := cmp.Diff(want, m.told); diff != "" {
		t.Errorf("Moodle was told (-want +got):\n%s", diff)
	}
	if m.browser.Session != "" || m.browser.UserAgent != "Mozilla/5.0 (ada)" || m.browser.Addr.String() != "192.0.2.1" {
		t.Errorf("the browser is %+v", m.browser)
	}
}

func TestWhoseSessionCountsAsTheLearners(t *testing.T) {
	for _, test := range []struct {
		name, session string
		lands         bool
		loggedOut     []int64
	}{
		{"the account's", fresh, true, nil},
		{"the account's, that lacks a second factor", freshHalf, true, nil},
		{"another account's", freshBobs, false, []int64{8}},
		{"one of the same name, of another kind", adasNext, false, []int64{7}},
		{"a suspended one", halfAdas, false, []int64{9}},
		{"an administrator's who wears it", wornAdas, false, []int64{9}},
		{"nobody's", freshNobody, false, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &headerMoodle{answer: ada(), login: moodle.Login{Session: test.session, Cookies: []string{"MoodleSession=" + test.session}}}
			a := newHeaderForum(t, m).lands(t, "")
			if test.lands != (a.Outcome == sp.OutcomeLanded) || test.lands != (len(a.Cookies) == 1) || test.lands == a.Refused || a.Err != nil {
				t.Errorf("%+v", a)
			}
			if !test.lands && (a.Rule != gateway.RuleAccountRefused || a.Cause == nil || a.Location != "" || strings.Contains(a.Cause.Error(), test.session)) {
				t.Errorf("%+v", a)
			}
			if diff := cmp.Diff(test.loggedOut, m.loggedOut); diff != "" {
				t.Errorf("logged out (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLandingsThatAreTurnedAway(t *testing.T) {
	long := strings.Repeat("ä", 101)
	for _, test := range []struct {
		name   string
		moodle headerMoodle
		home   func(*gateway.Peer)
		rule   gateway.Rule
		asked  bool // the home was
	}{
		{"the home does not know the token", headerMoodle{fault: &mnet.Fault{Code: 1}}, nil, gateway.RuleTokenRefused, true},
		{"the token is too old", headerMoodle{fault: fmt.Errorf("call: %w", &mnet.Fault{Code: 2})}, nil, gateway.RuleTokenRefused, true},
		{"anybody says so", headerMoodle{fault: &mnet.Fault{Code: 1, Unauthenticated: true}}, nil, gateway.RuleHomeFailed, true},
		{"the home does not publish it", headerMoodle{fault: &mnet.Fault{Code: 707}}, nil, gateway.RuleHomeFailed, true},
		{"the home does not answer", headerMoodle{fault: errors.New("dial")}, nil, gateway.RuleHomeFailed, true},
		{"the home says nothing", headerMoodle{answer: true}, nil, gateway.RuleHomeFailed, true},
		{"the home is none", headerMoodle{}, func(p *gateway.Peer) { p.Subscribe = []string{"sso_sp"} }, gateway.RuleHomeGrant, false},
		{"too many come", headerMoodle{rate: &store.RateError{Rule: gateway.RuleRateAddress, After: time.Second}}, nil, gateway.RuleRateAddress, false},
		{"nobody", headerMoodle{answer: with("username", "")}, nil, gateway.RuleUserIncomplete, true},
		{"no first name", headerMoodle{answer: with("firstname", " ")}, nil, gateway.RuleUserIncomplete, true},
		{"no last name", headerMoodle{answer: with("lastname", "")}, nil, gateway.RuleUserIncomplete, true},
		{"no mail address", headerMoodle{answer: with("email", "")}, nil, gateway.RuleUserIncomplete, true},
		{"an empty map", headerMoodle{answer: mnet.Array{}}, nil, gateway.RuleUserIncomplete, true},
		{"a long name", headerMoodle{answer: with("lastname", long)}, nil, gateway.RuleUserMalformed, true},
		{"a name of two lines", headerMoodle{answer: with("firstname", "Ada\r\nX-Jumpgate-Username: root")}, nil, gateway.RuleUserMalformed, true},
		{"a name that is no text", headerMoodle{answer: with("firstname", "Ad\xe4")}, nil, gateway.RuleUserMalformed, true},
		{"no address at all", headerMoodle{answer: with("email", "ada")}, nil, gateway.RuleUserMalformed, true},
		{"two mail addresses", headerMoodle{answer: with("email", "ada@a.test;root@a.test")}, nil, gateway.RuleUserMalformed, true},
		{"a long username", headerMoodle{answer: with("username", strings.Repeat("a", 99))}, nil, gateway.RuleUserUsername, true},
		{"a username with a line end", headerMoodle{answer: with("username", "ada\n")}, nil, gateway.RuleUserMalformed, true},
		{"whom the access list leaves out", headerMoodle{answer: ada()}, func(p *gateway.Peer) {
			list, err := gateway.NewUserList("ad*")
			if err != nil {
				t.Fatal(err)
			}
			p.Access.Deny = list
		}, gateway.RuleUserAccess, true},
		{"no account, and none is made", headerMoodle{answer: ada()}, func(p *gateway.Peer) { p.AutoAdd = gateway.AutoAddExisting }, gateway.RuleAccountMissing, true},
		{"Moodle refuses", headerMoodle{answer: ada(), err: fmt.Errorf("x: %w: status 404", moodle.ErrLoginRefused)}, nil, gateway.RuleAccountRefused, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newHeaderForum(t, &test.moodle)
			if test.home != nil {
				f = newHeaderForum(t, &test.moodle, test.home)
			}
			a := f.lands(t, "")
			if !a.Refused || a.Rule != test.rule || a.Err != nil || a.Location != "" || a.Cookies != nil || a.Outcome != "" {
				t.Errorf("%+v", a)
			}
			if (test.moodle.called != nil) != test.asked {
				t.Errorf("the home was asked %q", test.moodle.called)
			}
			if want := "https://home.test/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fforum.test&wantsurl=%2Fmod%2Fx%23p3"; test.asked && a.Again != want {
				t.Errorf("the way back is %q, want %q", a.Again, want)
			}
		})
	}
}

func TestLandingsThatCannotBeDecided(t *testing.T) {
	looksUp := func(p *gateway.Peer) { p.AutoAdd = gateway.AutoAddAsk }
	for name, m := range map[string]*headerMoodle{
		"Redis is down for the limit":   {rate: errDown},
		"Moodle does not answer":        {answer: ada(), has: true, err: errDown},
		"nobody knows whose session":    {answer: ada(), has: true, login: moodle.Login{Session: downs, Cookies: []string{"x"}}},
		"nobody knows of the account":   {answer: ada(), hasErr: errDown},
		"Redis is down for the token":   {answer: ada(), login: begun, has: true},
		"Redis is down, and somebody's": {answer: ada(), login: begun, has: true},
	} {
		f := newHeaderForum(t, m, looksUp)
		if strings.HasPrefix(name, "Redis is down") && m.rate == nil {
			f.Once = marks(nil)
		}
		if a := f.lands(t, ""); !errors.Is(a.Err, errDown) || a.Refused || a.Location != "" || a.Cookies != nil || a.Question != nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestATokenIsShownToItsHomeOnce(t *testing.T) {
	m := &headerMoodle{answer: ada(), login: begun}
	f := newHeaderForum(t, m)
	f.lands(t, "")
	m.called = nil
	if a := f.lands(t, ""); a.Rule != gateway.RuleTokenUsed || !a.Refused || a.Again == "" {
		t.Errorf("%+v", a)
	}
	// A home with MySQL knows a token in any letter case.
	r := visit("GET", strings.Replace(landing, "token=abc", "token=aBC", 1), "")
	if a := f.LogIn(r, f.Arrive(r)); a.Rule != gateway.RuleTokenUsed || !a.Refused {
		t.Errorf("in capital letters: %+v", a)
	}
	if a := f.lands(t, fresh); a.Outcome != sp.OutcomeUsed || a.Location != "https://forum.test/mod/x#p3" || a.Cookies != nil {
		t.Errorf("who is logged in already: %+v", a)
	}
	if a := f.lands(t, adasNext); a.Rule != gateway.RuleTokenUsed {
		t.Errorf("a local user: %+v", a)
	}
	if m.called != nil {
		t.Errorf("the home was asked %q", m.called)
	}
}

// TestATokenThatIsNoneIsSoonForgotten: anybody can make up any number.
func TestATokenThatIsNoneIsSoonForgotten(t *testing.T) {
	m, kept := &headerMoodle{fault: &mnet.Fault{Code: mnet.FaultNoSession}, login: begun}, marks{}
	f := newHeaderForum(t, m)
	f.Once = kept
	if a := f.lands(t, ""); a.Rule != gateway.RuleTokenRefused || len(kept) != 1 {
		t.Errorf("%d are kept: %+v", len(kept), a)
	}
	for _, life := range kept {
		if life > 10*time.Minute {
			t.Errorf("a token that logs nobody in is kept for %s", life)
		}
	}
	m.fault, m.answer = nil, ada()
	for range 2 {
		maps.DeleteFunc(kept, func(_ [32]byte, life time.Duration) bool { return life <= 10*time.Minute })
		f.lands(t, "")
	}
	if len(m.told) != 1 {
		t.Errorf("a token has logged in %d times", len(m.told))
	}
}

// readable reports whether a ticket, as it is or decoded, shows what is in it.
func readable(ticket string) bool {
	decoded, err := base64.RawURLEncoding.DecodeString(ticket)
	return err != nil || strings.Contains(ticket+string(decoded), `"username"`)
}

func TestWhoIsLoggedInIsAskedBeforeAnybodyElseIs(t *testing.T) {
	for _, test := range []struct {
		name, session string
		has           bool
		outcome       string
		creates       bool
	}{
		{"the same account", adas, true, sp.OutcomeSame, false},
		{"the same account, with a second factor due", freshHalf, true, sp.OutcomeSame, false},
		{"another account of the home", bobs, true, sp.OutcomeAsked, false},
		{"a local account of the same name", adasNext, true, sp.OutcomeAsked, false},
		{"an administrator who wears the account", wornAdas, true, sp.OutcomeAsked, false},
		{"another account, and none is there", bobs, false, sp.OutcomeAsked, true},
		{"nobody, and no account is there", "", false, sp.OutcomeAsked, true},
		{"nobody", "", true, sp.OutcomeLanded, false},
		{"an anonymous session", anonymous, true, sp.OutcomeLanded, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &headerMoodle{answer: ada(), login: begun, has: test.has}
			f := newHeaderForum(t, m, func(p *gateway.Peer) { p.AutoAdd = gateway.AutoAddAsk })
			a := f.lands(t, test.session)
			if a.Outcome != test.outcome || a.Err != nil || (a.Question != nil) != (test.outcome == sp.OutcomeAsked) {
				t.Fatalf("%+v", a)
			}
			if (len(m.told) > 0) != (test.outcome == sp.OutcomeLanded) {
				t.Errorf("Moodle was told %+v", m.told)
			}
			if a.Question == nil {
				return
			}
			if q := a.Question; q.Creates != test.creates || q.LoggedIn != (test.session != "") || readable(q.Ticket) {
				t.Errorf("the question is %+v", q)
			}
			if a := f.Switch(httptest.NewRecorder(), answer(a.Question, test.session, "switch")); a.Err != nil || a.Refused || len(a.Cookies) != 1 || a.Location == "" ||
				(a.Outcome == sp.OutcomeSwitched) != (test.session != "") || (a.Outcome == sp.OutcomeLanded) != (test.session == "") {
				t.Errorf("switched: %+v", a)
			}
			if again := f.Switch(httptest.NewRecorder(), answer(a.Question, test.session, "switch")); !again.Refused || again.Rule != gateway.RuleConfirmOver || len(m.told) != 1 {
				t.Errorf("once more: %+v", again)
			}
		})
	}
}

func TestWhoWantsNoAccountGoesHome(t *testing.T) {
	m := &headerMoodle{answer: ada(), login: begun}
	f := newHeaderForum(t, m, func(p *gateway.Peer) { p.AutoAdd = gateway.AutoAddAsk })
	q := f.lands(t, "").Question
	if q.Form != "https://home.test" {
		t.Errorf("the form leads to %q", q.Form)
	}
	if a := f.Switch(httptest.NewRecorder(), answer(q, bobs, "switch")); !a.Refused || a.Rule != gateway.RuleConfirmOver {
		t.Errorf("somebody has logged in since: %+v", a)
	}
	f.Peers.Peers()[0].Subscribe = nil
	if a := f.Switch(httptest.NewRecorder(), answer(q, "", "switch")); !a.Refused || a.Rule != gateway.RuleHomeGrant {
		t.Errorf("the home is none any more: %+v", a)
	}
	f.Peers.Peers()[0].Subscribe = []string{"sso_idp"}
	if a := f.Switch(httptest.NewRecorder(), answer(q, "", "stay")); a.Outcome != sp.OutcomeStayed || a.Location != "https://home.test/" || a.Cookies != nil || len(m.told) != 0 {
		t.Errorf("%+v", a)
	}
}

func TestWhatIsNotAsItShouldBeIsNotTaken(t *testing.T) {
	m := &headerMoodle{answer: with("city", "a\nb", "country", "Germany", "lang", "../de"), login: begun}
	newHeaderForum(t, m).lands(t, "")
	m.answer = ada()
	newHeaderForum(t, m, func(p *gateway.Peer) { p.Import = []string{} }).lands(t, "")
	for _, u := range m.told {
		if u.City != "" || u.Country != "" || u.Lang != "" || u.Username != "ada@home.test" {
			t.Errorf("Moodle was told %+v", u)
		}
	}
	if len(m.told) != 2 {
		t.Errorf("%d logins", len(m.told))
	}
}

// FuzzWhatAHomeSays looks for an answer of a home that becomes an account which
// is not its own, or a header that is none.
func FuzzWhatAHomeSays(f *testing.F) {
	f.Add("ada", "Ada", "Lovelace", "ada@home.test", "London", "GB", "en_utf8")
	f.Add("müller", "Jürgen;", "a\r\nb", "x;y@z", "\x00", "de", "de_at")
	f.Add("root@other.test", " ", "\u2028", "a@b", "\u00a0", "g b", "EN")
	f.Fuzz(func(t *testing.T, username, first, last, email, city, country, lang string) {
		m := &headerMoodle{login: begun, answer: with("username", username, "firstname", first, "lastname", last, "email", email, "city", city, "country", country, "lang", lang)}
		newHeaderForum(t, m).lands(t, "")
		for _, u := range m.told {
			if !strings.HasSuffix(u.Username, "@home.test") || len(u.Username) > 100 || strings.ToLower(u.Username) != u.Username {
				t.Errorf("the account is %q", u.Username)
			}
			for _, value := range []string{u.Username, u.FirstName, u.LastName, u.Email, u.City, u.Country, u.Lang} {
				if !httpguts.ValidHeaderFieldValue(value) || len(value) > 480 {
					t.Errorf("%q fits into no header", value)
				}
			}
			if u.FirstName == "" || u.LastName == "" || u.Email == "" {
				t.Errorf("incomplete: %+v", u)
			}
		}
	})
}
