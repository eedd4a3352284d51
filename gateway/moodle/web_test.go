package moodle

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

var testBrowser = Browser{Session: testSID, Addr: netip.MustParseAddr("203.0.113.9"), UserAgent: "Mozilla/5.0 (X11)"}

func web(t *testing.T, s *standIn, change func(*WebOptions)) *Web {
	t.Helper()
	upstream, err := url.Parse(s.start(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	site, err := gateway.ParseWwwroot("http://idp.test:8080/moodle")
	if err != nil {
		t.Fatal(err)
	}
	o := WebOptions{Upstream: upstream, Site: site}
	if change != nil {
		change(&o)
	}
	return NewWeb(o)
}

func withToken(o *WebOptions) { o.Token = func() string { return testToken } }

var lena = gateway.User{
	ID: 3, Username: "learner1", FirstName: "Lena", LastName: "Lerner", Email: "learner1@idp.test", Auth: "manual",
	City: "Berlin", Country: "DE", Lang: "en", Timezone: "99", MailFormat: "1", Picture: "10",
}

func TestWebSaysWhoseASessionIs(t *testing.T) {
	remote := gateway.Identity{Remote: true, User: gateway.User{
		ID: 4, Username: "learner1", FirstName: "Lena", LastName: "Lerner", Email: "learner1@idp.test", Auth: "mnet",
		Lang: "en", Timezone: "99", MailFormat: "1",
	}}
	suspended := gateway.Identity{User: gateway.User{
		ID: 5, Username: "louis", FirstName: "Louis", LastName: "Leclerc", Email: "louis@idp.test", Auth: "manual",
		MailFormat: "0", Suspended: true,
	}}
	tests := map[string]struct {
		moodle   *standIn
		change   func(*WebOptions)
		want     gateway.Identity
		requests int
	}{
		"a learner, by his own session":       {&standIn{userID: 3}, nil, gateway.Identity{User: lena}, 2},
		"a learner, by token":                 {&standIn{userID: 3}, withToken, gateway.Identity{User: lena}, 2},
		"a token that is empty is none":       {&standIn{userID: 3}, func(o *WebOptions) { o.Token = func() string { return "" } }, gateway.Identity{User: lena}, 2},
		"a learner of 4.1, by his session":    {&standIn{userID: 3, before45: true}, nil, gateway.Identity{User: lena}, 3},
		"a learner of 4.1, by token":          {&standIn{userID: 3, before45: true}, withToken, gateway.Identity{User: lena}, 3},
		"a remote learner":                    {&standIn{userID: 4}, nil, remote, 2},
		"a remote learner, by token":          {&standIn{userID: 4}, withToken, remote, 2},
		"a suspended learner":                 {&standIn{userID: 5}, nil, suspended, 2},
		"nobody":                              {&standIn{}, nil, gateway.Identity{}, 1},
		"nobody on 4.1":                       {&standIn{before45: true}, nil, gateway.Identity{}, 1},
		"a guest":                             {&standIn{userID: 1}, nil, gateway.Identity{User: gateway.User{ID: 1}, Guest: true}, 1},
		"a guest on 4.1":                      {&standIn{userID: 1, before45: true}, nil, gateway.Identity{}, 2},
		"login as":                            {&standIn{userID: 3, realUser: 2}, nil, gateway.Identity{User: gateway.User{ID: 3}, LoginAs: true}, 1},
		"login as, by token":                  {&standIn{userID: 3, realUser: 2}, withToken, gateway.Identity{User: gateway.User{ID: 3}, LoginAs: true}, 1},
		"login as on 4.1":                     {&standIn{userID: 3, realUser: 2, before45: true}, withToken, gateway.Identity{User: gateway.User{ID: 2}, LoginAs: true}, 2},
		"login as, told by the session alone": {&standIn{userID: 3, realUser: 2, noMarkers: true}, nil, gateway.Identity{User: lena, LoginAs: true}, 2},
		"a factor is pending": {&standIn{userID: 3, redirect: "http://idp.test:8080/moodle/admin/tool/mfa/auth.php"}, nil,
			gateway.Identity{MFAPending: true}, 1},
		"a login page elsewhere":           {&standIn{userID: 3, redirect: "https://sso.example/login?x=/admin/tool/mfa/auth.php"}, nil, gateway.Identity{}, 1},
		"a redirect to nowhere":            {&standIn{userID: 3, redirect: "http://[::bad"}, nil, gateway.Identity{}, 1},
		"a password change is due":         {&standIn{userID: 3, refuse: "forcepasswordchangenotice"}, nil, gateway.Identity{}, 2},
		"a factor is pending, says ajax":   {&standIn{userID: 3, refuse: "redirecterrordetected", refuseAll: true}, nil, gateway.Identity{}, 2},
		"the session ends in between":      {&standIn{userID: 3, refuse: "servicerequireslogin"}, nil, gateway.Identity{}, 2},
		"it ends in between, on 4.1":       {&standIn{userID: 3, before45: true, refuse: "servicerequireslogin"}, nil, gateway.Identity{}, 2},
		"with factors the session decides": {&standIn{userID: 3, refuse: "redirecterrordetected"}, func(o *WebOptions) { withToken(o); o.MFA = true }, gateway.Identity{}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := web(t, tt.moodle, tt.change).Identity(t.Context(), testBrowser)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if len(tt.moodle.requests) != tt.requests {
				t.Errorf("%d requests, want %d", len(tt.moodle.requests), tt.requests)
			}
		})
	}
}

// For who must not be replaced, a login that lacks something is somebody's, and
// a login page that leads elsewhere says nothing.
func TestWebSaysThatALoginIsIncomplete(t *testing.T) {
	const sso = "https://sso.example/login"
	half := func(id int64) gateway.Identity {
		return gateway.Identity{User: gateway.User{ID: id}, PasswordDue: true}
	}
	for name, tt := range map[string]struct {
		moodle   *standIn
		session  string
		want     gateway.Identity
		requests int
	}{
		"a password change is due":          {&standIn{userID: 3, refuse: "forcepasswordchangenotice"}, testSID, half(3), 2},
		"a site policy is not agreed to":    {&standIn{userID: 3, refuse: "sitepolicynotagreed"}, testSID, half(3), 2},
		"the same, on 4.1":                  {&standIn{userID: 3, before45: true, refuse: "usernotfullysetup"}, testSID, half(0), 2},
		"the session ends in between":       {&standIn{userID: 3, refuse: "servicerequireslogin"}, testSID, gateway.Identity{}, 2},
		"nobody":                            {&standIn{}, testSID, gateway.Identity{}, 1},
		"a login page elsewhere":            {&standIn{userID: 3, redirect: sso}, testSID, gateway.Identity{User: lena}, 3},
		"a login page elsewhere for nobody": {&standIn{redirect: sso}, testSID, gateway.Identity{}, 2},
		"for a session that is over":        {&standIn{userID: 3, redirect: sso}, "overoveroveroveroveroverov", gateway.Identity{}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := testBrowser
			b.Session = tt.session
			got, err := web(t, tt.moodle, func(o *WebOptions) { o.Incomplete = true }).Identity(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if len(tt.moodle.requests) != tt.requests {
				t.Errorf("%d requests, want %d", len(tt.moodle.requests), tt.requests)
			}
		})
	}
	both := &standIn{userID: 3, redirect: sso, away: true}
	if got, err := web(t, both, func(o *WebOptions) { o.Incomplete = true }).Identity(t.Context(), testBrowser); err == nil {
		t.Errorf("all pages lead elsewhere: %+v", got)
	}
}

func TestWebAsksAsTheBrowserWithNothingElse(t *testing.T) {
	s := &standIn{userID: 3, before45: true}
	if _, err := web(t, s, withToken).Identity(t.Context(), testBrowser); err != nil {
		t.Fatal(err)
	}
	for i, r := range s.requests {
		isREST := r.URL.Path == "/webservice/rest/server.php"
		want := map[string]string{
			"Cookie": "MoodleSession=" + testSID, "User-Agent": "Mozilla/5.0 (X11)", "X-Forwarded-For": "203.0.113.9",
			"X-Forwarded-Proto": "http", "X-Forwarded-Host": "idp.test:8080",
		}
		if isREST {
			want = map[string]string{"Cookie": "", "X-Forwarded-For": "", "X-Forwarded-Proto": "http"}
		}
		for name, value := range want {
			if got := r.Header.Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", r.URL.Path, name, got, value)
			}
		}
		if r.Host != "idp.test:8080" {
			t.Errorf("%s: Host is %q", r.URL.Path, r.Host)
		}
		if strings.Contains(r.URL.String(), testToken) || isREST != strings.Contains(s.bodies[i], testToken) {
			t.Errorf("%s: the token is in the wrong place", r.URL)
		}
	}
}

func TestWebNeverAnswersInDoubt(t *testing.T) {
	learner := (&standIn{userID: 3}).page45(3)
	tests := map[string]struct {
		moodle *standIn
		change func(*WebOptions)
		want   string // part of the error
	}{
		"no Moodle there":                {&standIn{status: http.StatusNotFound}, nil, "status 404"},
		"maintenance":                    {&standIn{userID: 3, status: http.StatusServiceUnavailable}, nil, "status 503"},
		"a page that is not Moodle's":    {&standIn{page: "<html><body>It works!"}, nil, "no M.cfg"},
		"a page cut off in M.cfg":        {&standIn{page: learner[:strings.Index(learner, "sesskey")]}, nil, "not JSON"},
		"a page with another userId":     {&standIn{page: strings.Replace(learner, `"userId":3`, `"userId":"3"`, 1)}, nil, "not JSON"},
		"a page without body":            {&standIn{page: learner[:strings.Index(learner, "<body")]}, nil, "pagelayout"},
		"a page without core's classes":  {&standIn{page: strings.Replace(learner, "pagelayout-login", "", 1)}, nil, "pagelayout"},
		"classes outside the body's tag": {&standIn{page: strings.Replace(learner, `class="`, `x="`, 1)}, nil, "pagelayout"},
		"a user who is not logged in":    {&standIn{page: strings.Replace(learner, "context-1", "context-1 notloggedin", 1)}, nil, "contradicts"},
		"nobody who is logged in":        {&standIn{page: strings.Replace(learner, `"userId":3`, `"userId":0`, 1)}, nil, "contradicts"},
		"a negative user":                {&standIn{page: strings.Replace(learner, `"userId":3`, `"userId":-3`, 1)}, nil, "contradicts"},
		"a page of a megabyte of spaces": {&standIn{page: strings.Repeat(" ", 1<<20) + learner}, nil, "no M.cfg"},
		"a function that is not offered": {&standIn{userID: 3, refuse: "servicenotavailable"}, nil, "configure a web service token"},
		"ajax that is HTML":              {&standIn{userID: 3, ajax: "<html>"}, nil, "not what Moodle gives"},
		"ajax that is short":             {&standIn{userID: 3, ajax: `[{"error":false,"data":{"userid":3}}]`}, nil, "1 answers to 2 calls"},
		"ajax that is long":              {&standIn{userID: 3, ajax: `[{},{},{}]`}, nil, "3 answers to 2 calls"},
		"ajax without an owner":          {&standIn{userID: 3, ajax: `[{"error":false,"data":{}},{"error":false,"data":[]}]`}, nil, "names no user"},
		"ajax without the user":          {&standIn{userID: 9}, nil, "does not show the user"},
		"ajax on 4.1 that is HTML":       {&standIn{userID: 3, before45: true, ajax: "<html>"}, nil, "not what Moodle gives"},
		"a wrong token":                  {&standIn{userID: 3}, func(o *WebOptions) { o.Token = func() string { return "wrong" } }, "token is not valid"},
		"a token without the function":   {&standIn{userID: 3, rest: `{"exception":"webservice_access_exception","errorcode":"accessexception","message":"Access control exception"}`}, withToken, "does not contain the function"},
		"a token without capabilities":   {&standIn{userID: 3, rest: `[]`}, withToken, "lacks moodle/user:viewdetails"},
		"only a namesake":                {&standIn{userID: 3, rest: "[" + records[4] + "]"}, withToken, "does not show the user"},
		"a record without a name":        {&standIn{userID: 3, rest: `[{"id":3,"fullname":"Lena Lerner"}]`}, withToken, "lacks moodle/user:viewalldetails"},
		"a record that is not one":       {&standIn{userID: 3, rest: `"x"`}, withToken, "not a list of users"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := web(t, tt.moodle, tt.change).Identity(t.Context(), testBrowser)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if got != (gateway.Identity{}) {
				t.Errorf("an error, but also %+v", got)
			}
			checkSilent(t, err)
		})
	}
}

func checkSilent(t *testing.T, err error) {
	t.Helper()
	for _, secret := range []string{testSID, testSesskey, testToken} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error %q tells a secret", err)
		}
	}
}

// failing is a transport whose every request from the nth on fails.
type failing struct {
	n    int
	next http.RoundTripper
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.n--; f.n < 0 {
		return nil, errors.New("connection reset")
	}
	return f.next.RoundTrip(r)
}

func TestWebErrorsTellNoSecretWhenMoodleBreaksOff(t *testing.T) {
	for n := range 3 {
		for _, token := range []bool{false, true} {
			w := web(t, &standIn{userID: 3, before45: true}, func(o *WebOptions) {
				if token {
					withToken(o)
				}
				o.Transport = &failing{n, http.DefaultTransport}
			})
			_, err := w.Identity(t.Context(), testBrowser)
			if err == nil || !strings.Contains(err.Error(), "connection reset") {
				t.Fatalf("after %d requests: %v", n, err)
			}
			checkSilent(t, err)
		}
	}
}

func TestWebEndsWithTheRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := web(t, &standIn{userID: 3}, nil).Identity(ctx, testBrowser)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestWebNeverSendsWhatIsNoSessionID(t *testing.T) {
	s := &standIn{userID: 3}
	w := web(t, s, nil)
	for _, sid := range []string{"", "short", testSID + "; MoodleSession=x", testSID + "\r\n"} {
		if id, err := w.Identity(t.Context(), Browser{Session: sid}); err != nil || id != (gateway.Identity{}) {
			t.Errorf("%q: %+v, %v", sid, id, err)
		}
		if err := w.Forget(t.Context(), sid); err != nil {
			t.Error(err)
		}
	}
	if len(s.requests) != 0 {
		t.Errorf("%d requests", len(s.requests))
	}
}

// memory is a Cache that notes what it is asked and can be made to fail.
type memory struct {
	values map[string][]byte
	ttl    time.Duration
	err    error
}

func (m *memory) Get(_ context.Context, key string) ([]byte, error) { return m.values[key], m.err }

func (m *memory) Put(_ context.Context, key string, value []byte, ttl time.Duration) error {
	m.values[key], m.ttl = value, ttl
	return m.err
}

func (m *memory) Forget(_ context.Context, key string) error {
	delete(m.values, key)
	return m.err
}

func TestWebRemembersWhoIsLoggedInForAMinute(t *testing.T) {
	s, cache, now := &standIn{userID: 3}, &memory{values: map[string][]byte{}}, time.Unix(testNow, 0)
	w := web(t, s, func(o *WebOptions) {
		o.Cache, o.CacheTTL, o.CacheKey = cache, time.Hour, func() [32]byte { return [32]byte{1} }
		o.Now = func() time.Time { return now }
	})
	expect := func(what string, requests int, want gateway.Identity) {
		t.Helper()
		got, err := w.Identity(t.Context(), testBrowser)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
		if len(s.requests) != requests {
			t.Errorf("%s: %d requests, want %d", what, len(s.requests), requests)
		}
		s.requests = nil
	}
	expect("at first", 2, gateway.Identity{User: lena})
	expect("then", 0, gateway.Identity{User: lena})
	if cache.ttl != time.Minute {
		t.Errorf("for %v", cache.ttl)
	}
	for key, value := range cache.values {
		if len(key) != 64 || strings.Contains(key+string(value), testSID) {
			t.Errorf("%q: %q", key, value)
		}
	}
	now = now.Add(59 * time.Second)
	expect("after 59 s", 0, gateway.Identity{User: lena})
	now = now.Add(time.Second)
	expect("after 60 s, though the store still has it", 2, gateway.Identity{User: lena})

	if err := w.Forget(t.Context(), testSID); err != nil {
		t.Fatal(err)
	}
	s.userID = 0
	expect("after a logout", 1, gateway.Identity{})
	expect("nobody is not remembered", 1, gateway.Identity{})
	s.userID, s.redirect = 3, "/moodle/admin/tool/mfa/auth.php"
	expect("a pending factor", 1, gateway.Identity{MFAPending: true})
	s.redirect = ""
	expect("is not remembered", 2, gateway.Identity{User: lena})

	for key := range cache.values {
		cache.values[key] = []byte("garbage")
	}
	expect("garbage", 2, gateway.Identity{User: lena})
}

func TestWebReportsACacheThatFails(t *testing.T) {
	broken := &memory{values: map[string][]byte{}, err: errors.New("redis is down")}
	w := web(t, &standIn{userID: 3}, func(o *WebOptions) { o.Cache, o.CacheKey = broken, func() [32]byte { return [32]byte{1} } })
	if id, err := w.Identity(t.Context(), testBrowser); err == nil || id != (gateway.Identity{}) {
		t.Errorf("%+v, %v", id, err)
	}
	if err := w.remember(t.Context(), testSID, gateway.Identity{User: lena}); err == nil {
		t.Error("no error from Put")
	}
	if err := w.Forget(t.Context(), testSID); err == nil {
		t.Error("no error from Forget")
	}
}

func FuzzParsePage(f *testing.F) {
	f.Add([]byte((&standIn{}).page45(3)))
	f.Add([]byte((&standIn{realUser: 2}).page45(3)))
	f.Add([]byte((&standIn{before45: true}).page45(0)))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := parsePage(body)
		if err != nil && p != (page{}) || p.userID < 0 {
			t.Errorf("%+v, %v", p, err)
		}
	})
}
