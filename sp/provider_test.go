package sp_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
	"jumpgate/sp"
)

const clientSecret = "fedcba9876543210fedcba9876543210"

// oauth2Moodle is a Moodle that logs in whom it is told to, as the account of the
// session fresh, and shows its accounts by their mail addresses.
type oauth2Moodle struct {
	provider *sp.Provider
	accounts map[string][]moodle.Account // before the login, by mail address
	after    map[string][]moodle.Account // and since
	askErr   error
	session  string

	asked     []string
	codes     []string
	claims    map[string]any
	idToken   string
	loggedOut []int64
}

func (m *oauth2Moodle) OAuth2Login(ctx context.Context, b moodle.Browser, issuerID int64, code string) (moodle.Login, error) {
	m.codes = append(m.codes, code)
	if b.Session != "" || issuerID != 3 {
		return moodle.Login{}, errors.New("not as it should be")
	}
	answer, err := m.provider.Token(ctx, clientForm(code), nil)
	if err != nil {
		return moodle.Login{}, err
	}
	text, err := m.provider.UserInfo(ctx, answer.AccessToken)
	if err == nil {
		err = json.Unmarshal(text, &m.claims)
	}
	m.idToken, m.accounts = answer.IDToken, m.after
	return moodle.Login{Session: m.session, Cookies: []string{"MoodleSession=" + m.session}}, err
}

func (m *oauth2Moodle) Logout(_ context.Context, _ moodle.Browser, userID int64) error {
	m.loggedOut = append(m.loggedOut, userID)
	return nil
}

func clientForm(code string) url.Values {
	return url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "client_id": {"moodle"}, "client_secret": {clientSecret},
		"redirect_uri": {"https://forum.test/admin/oauth2callback.php"},
	}
}

// marked is the account that the plugin makes of ada@home.test.
var marked = moodle.Account{ID: 9, Username: "ada@home.test", Auth: "oauth2", Mail: "ada@home.test", IDNumber: "https://home.test#ada"}

func newOAuth2Forum(t testing.TB, answer mnet.Value, change ...func(*gateway.Peer)) (*forum, *oauth2Moodle) {
	t.Helper()
	f := newHeaderForum(t, &headerMoodle{answer: answer}, change...)
	redis, err := store.Open(store.Options{Addr: store.Embedded})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { redis.Close() })
	now := func() time.Time { return f.now }
	m := &oauth2Moodle{session: fresh, after: map[string][]moodle.Account{"ada@home.test": {marked}}}
	m.provider = &sp.Provider{
		Site: f.Site, ClientID: "moodle", ClientSecret: clientSecret, Codes: redis.Site(f.Site), Now: now,
		Tokens: &sp.Assertions{Site: f.Site, Algorithm: sp.AlgorithmRS256, Keys: func() []*mnet.Key { return []*mnet.Key{siteKey()} }, Now: now},
	}
	source := maps.Clone(f.Source.(known))
	for session, auth := range map[string]string{fresh: "oauth2", adas: "oauth2", freshBobs: "oauth2", adasNext: "mnet"} {
		id := source[session]
		id.User.Auth, id.User.Email, id.Remote = auth, id.User.Username, auth == "mnet"
		source[session] = id
	}
	f.Source = source
	f.Logins.Visits.Logout = m.Logout
	f.Logins.Door = &sp.OAuth2Door{Moodle: m, IssuerID: 3, Provider: m.provider, Claim: redis.Site(f.Site).ClaimMail, Accounts: func(_ context.Context, field, value string) ([]moodle.Account, error) {
		m.asked = append(m.asked, field+"="+value)
		return m.accounts[value], m.askErr
	}}
	return f, m
}

func TestAMoodleIsToldWhoLands(t *testing.T) {
	f, m := newOAuth2Forum(t, ada())
	a := f.lands(t, "")
	if a.Outcome != sp.OutcomeLanded || a.Refused || a.Err != nil || a.Location != "https://forum.test/mod/x#p3" || len(a.Cookies) != 1 {
		t.Fatalf("%+v", a)
	}
	want := map[string]any{
		"sub": "https://home.test#ada", "preferred_username": "ada@home.test", "name": "Ada Lovelace", "given_name": "Ada", "family_name": "Lovelace",
		"email": "ada@home.test", "email_verified": false, "locale": "en-GB", "city": "London", "country": "GB",
	}
	if diff := cmp.Diff(want, m.claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"email=ada@home.test", "email=ada@home.test"}, m.asked); diff != "" {
		t.Errorf("accounts were asked for (-want +got):\n%s", diff)
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(m.idToken, claims, func(token *jwt.Token) (any, error) {
		var set struct{ Keys []map[string]string }
		text, err := m.provider.Tokens.KeySet()
		if err == nil {
			err = json.Unmarshal(text, &set)
		}
		if err != nil || len(set.Keys) != 1 || set.Keys[0]["kid"] != token.Header["kid"] || token.Header["typ"] != "JWT" {
			t.Errorf("%v, %s, for %v", err, text, token.Header)
		}
		return publicKey(t, set.Keys[0])
	}, jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer("https://forum.test"), jwt.WithAudience("moodle"), jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(func() time.Time { return f.now.Add(59 * time.Second) }))
	if err != nil || claims["sub"] != "https://home.test#ada" || claims["email"] != nil {
		t.Errorf("the ID token says %v, %v", claims, err)
	}

	m.asked = nil
	again := strings.Replace(landing, "token=abc", "token=another", 1)
	r := visit("GET", again, "")
	if a := f.LogIn(r, f.Arrive(r)); a.Outcome != sp.OutcomeLanded || len(m.asked) != 1 {
		t.Errorf("who is known already: %+v, and accounts were asked for %q", a, m.asked)
	}
}

func TestWhomAnOAuth2DoorLetsIn(t *testing.T) {
	one := func(change func(*moodle.Account)) map[string][]moodle.Account {
		account := marked
		change(&account)
		return map[string][]moodle.Account{"ada@home.test": {account}}
	}
	none := map[string][]moodle.Account{}
	for _, test := range []struct {
		name          string
		answer        mnet.Value
		before, after map[string][]moodle.Account
		session       string
		rule          gateway.Rule // that refuses, or ""
		began         bool         // Moodle was asked to
		loggedOut     []int64
		cause         string
	}{
		{"a manual account has the mail", ada(), one(func(a *moodle.Account) { a.ID, a.Auth, a.Username = 2, "manual", "admin" }), nil, fresh, gateway.RuleAccountMail, false, nil, "account 2 (auth manual)"},
		{"a manual account has mail and name", ada(), one(func(a *moodle.Account) { a.Auth = "manual" }), nil, fresh, gateway.RuleAccountMail, false, nil, "(auth manual)"},
		{"another of the plugin's has the mail", ada(), one(func(a *moodle.Account) { a.Username = "eve@other.test" }), nil, fresh, gateway.RuleAccountMail, false, nil, "(auth oauth2)"},
		{"one that another service made has mail and name", ada(), one(func(a *moodle.Account) { a.IDNumber = "" }), nil, fresh, gateway.RuleAccountMail, false, nil, "map the field sub to idnumber"},
		{"one of another home has mail and name", ada(), one(func(a *moodle.Account) { a.IDNumber = "https://other.test#ada" }), nil, fresh, gateway.RuleAccountMail, false, nil, `not the ID number "https://home.test#ada"`},
		{"one of MNet has the mail", ada(), one(func(a *moodle.Account) { a.Auth, a.Username = "mnet", "ada" }), one(func(*moodle.Account) {}), fresh, "", true, nil, ""},
		{"it is known", ada(), one(func(*moodle.Account) {}), nil, fresh, "", true, nil, ""},
		{"the token sees nothing", ada(), none, none, fresh, gateway.RuleAccountRefused, true, []int64{9}, "moodle/site:viewuseridentity"},
		{"accounts are not marked", ada(), none, one(func(a *moodle.Account) { a.IDNumber = "" }), fresh, gateway.RuleAccountRefused, true, []int64{9}, "map the field sub to idnumber"},
		{"Moodle logs in another one", ada(), none, none, freshBobs, gateway.RuleAccountRefused, true, []int64{8}, "moodle has logged in user 8"},
		{"Moodle logs in nobody", ada(), none, none, freshNobody, gateway.RuleAccountRefused, true, nil, ""},
		{"the mail has other letters", with("email", "adä@home.test"), none, none, fresh, gateway.RuleUserMalformed, false, nil, "ASCII"},
		{"the mail has a quote", with("email", `"a"@home.test`), none, none, fresh, gateway.RuleUserMalformed, false, nil, "ASCII"},
		{"the mail has two signs", with("email", `a@b@home.test`), none, none, fresh, gateway.RuleUserMalformed, false, nil, "ASCII"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, m := newOAuth2Forum(t, test.answer)
			m.accounts, m.session = test.before, test.session
			if m.after = test.after; m.after == nil {
				m.after = test.before
			}
			a := f.lands(t, "")
			if a.Err != nil || a.Refused != (test.rule != "") || a.Refused && a.Rule != test.rule || (a.Location != "") == a.Refused || (a.Cookies != nil) == a.Refused {
				t.Errorf("%+v", a)
			}
			if a.Refused && (a.Cause == nil || !strings.Contains(a.Cause.Error(), test.cause) || strings.Contains(a.Cause.Error(), test.session)) {
				t.Errorf("the cause is %v", a.Cause)
			}
			if (len(m.codes) == 1) != test.began {
				t.Errorf("%d codes", len(m.codes))
			}
			if diff := cmp.Diff(test.loggedOut, m.loggedOut); diff != "" {
				t.Errorf("logged out (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("nobody knows of the accounts", func(t *testing.T) {
		f, m := newOAuth2Forum(t, ada())
		m.askErr = errDown
		if a := f.lands(t, ""); !errors.Is(a.Err, errDown) || a.Location != "" || m.codes != nil {
			t.Errorf("%+v", a)
		}
	})
	t.Run("the service has no number yet", func(t *testing.T) {
		f, m := newOAuth2Forum(t, ada())
		f.Logins.Door.(*sp.OAuth2Door).IssuerID = 0
		if a := f.lands(t, ""); a.Rule != gateway.RuleAccountRefused || !strings.Contains(a.Cause.Error(), "landing.issuer_id") || m.codes != nil {
			t.Errorf("%+v", a)
		}
	})
}

func TestWhoHasAnAccountByOAuth2(t *testing.T) {
	existing := func(p *gateway.Peer) { p.AutoAdd = gateway.AutoAddExisting }
	for _, test := range []struct {
		name     string
		accounts map[string][]moodle.Account
		has      bool
	}{
		{"nobody", nil, false},
		{"who has one of the plugin's", map[string][]moodle.Account{"ada@home.test": {marked}}, true},
		{"who has one of MNet's", map[string][]moodle.Account{"ada": {{ID: 4, Username: "ada", Auth: "mnet"}}, "ada@home.test": {marked}}, true},
		{"whose name a local one has", map[string][]moodle.Account{"ada": {{ID: 4, Username: "ada", Auth: "manual"}}}, false},
	} {
		f, m := newOAuth2Forum(t, ada(), existing)
		m.accounts = test.accounts
		if a := f.lands(t, ""); (a.Rule == gateway.RuleAccountMissing && a.Refused) == test.has || a.Err != nil {
			t.Errorf("%s: %+v", test.name, a)
		}
	}
}

func TestWhoGetsNoToken(t *testing.T) {
	f, m := newOAuth2Forum(t, ada())
	code := func() string {
		t.Helper()
		var issued string
		issuing := *m.provider
		issuing.Codes = caught{m.provider.Codes, &issued}
		f.Logins.Door.(*sp.OAuth2Door).Provider = &issuing
		f.Once = marks{}
		f.lands(t, "")
		return issued
	}
	with := func(pairs ...string) func(url.Values) {
		return func(form url.Values) {
			for i := 0; i < len(pairs); i += 2 {
				form.Set(pairs[i], pairs[i+1])
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func(url.Values)
		basic  *url.Userinfo
		want   string
		burns  bool
	}{
		{"with another secret", with("client_secret", clientSecret[1:]), nil, "invalid_client", false},
		{"without a secret", with("client_secret", ""), nil, "invalid_client", false},
		{"by another name", with("client_id", "other"), nil, "invalid_client", false},
		{"who says it twice", func(url.Values) {}, url.UserPassword("moodle", clientSecret), "invalid_request", false},
		{"who says it in two ways", with("client_secret", "", "client_id", "other"), url.UserPassword("moodle", clientSecret), "invalid_request", false},
		{"with another secret in a header", func(f url.Values) { f.Del("client_secret") }, url.UserPassword("moodle", "x"), "invalid_client", false},
		{"who repeats a field", func(f url.Values) { f.Add("code", "x") }, nil, "invalid_request", false},
		{"who wants something else", with("grant_type", "password"), nil, "unsupported_grant_type", false},
		{"for another site", with("redirect_uri", "https://evil.test/admin/oauth2callback.php"), nil, "invalid_grant", false},
		{"for no code", with("code", ""), nil, "invalid_grant", false},
		{"for a code that nobody has", with("code", strings.Repeat("x", 40)), nil, "invalid_grant", false},
		{"as it is", func(url.Values) {}, nil, "", true},
		{"with a header, and nothing in the form", func(f url.Values) { f.Del("client_secret"); f.Del("client_id"); f.Del("redirect_uri") }, url.UserPassword("moodle", clientSecret), "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			form := clientForm(code())
			test.change(form)
			answer, err := m.provider.Token(t.Context(), form, test.basic)
			refused, _ := errors.AsType[*sp.OAuthError](err)
			if refused != nil && refused.Code != test.want || (refused == nil) != (test.want == "") || (answer.AccessToken == "") != (test.want != "") {
				t.Fatalf("%+v, %v", answer, err)
			}
			if refused != nil && (strings.Contains(err.Error(), clientSecret) || answer.IDToken != "") {
				t.Errorf("%+v, %v", answer, err)
			}
			if test.burns {
				if answer, err := m.provider.Token(t.Context(), clientForm(form.Get("code")), nil); err == nil {
					t.Errorf("a second time: %+v", answer)
				}
			}
		})
	}
	if _, err := (&sp.Provider{Site: f.Site}).Token(t.Context(), url.Values{"grant_type": {"authorization_code"}}, nil); err == nil {
		t.Error("a provider without a secret knows everybody")
	}
}

// caught keeps codes from the Moodle behind.
type caught struct {
	sp.Codes
	code *string
}

func (c caught) IssueCode(ctx context.Context, record []byte) (code string, err error) {
	*c.code, err = c.Codes.IssueCode(ctx, record)
	return strings.Repeat("y", 40), err
}

// TestTheAccountOfAnotherHomeIsNotTheOneThatIsLoggedIn, nor one that has come by another
// provider, whose mail address the plugin has made its name.
func TestTheAccountOfAnotherHomeIsNotTheOneThatIsLoggedIn(t *testing.T) {
	f, _ := newOAuth2Forum(t, ada())
	const others = "otherotherotherotherothero"
	f.Source.(known)[others] = f.Source.(known)[adas]
	for _, session := range []string{adasNext, others} { // no landing of ours has begun these sessions
		f.Once = marks{}
		if a := f.lands(t, session); a.Question == nil || !a.Question.LoggedIn {
			t.Errorf("%+v", a)
		}
	}
	if a := f.lands(t, adas); a.Outcome != sp.OutcomeUsed {
		t.Errorf("%+v", a)
	}
	for _, want := range []string{sp.OutcomeLanded, sp.OutcomeSame} {
		f.Once = marks{}
		if a := f.lands(t, map[string]string{sp.OutcomeSame: fresh}[want]); a.Outcome != want || a.Err != nil {
			t.Errorf("%+v", a)
		}
	}
}

func TestThePageThatABrowserAsksFor(t *testing.T) {
	f, m := newOAuth2Forum(t, ada())
	for state, want := range map[string]string{
		"":                        "/",
		"/auth/oauth2/login.php":  "/",
		"%zz":                     "/",
		"/x?wantsurl=/mod/x":      "/",
		"/x?wantsurl=//evil.test": "/",
		"/x?wantsurl=" + url.QueryEscape("https://forum.test.evil.test/x"): "/",
		"/x?wantsurl=" + url.QueryEscape("https://forum.test@evil.test/x"): "/",
		"/x?wantsurl=" + url.QueryEscape("https://forum.test/mod/x?d=1"):   "/mod/x?d=1",
	} {
		r := httptest.NewRequest("GET", f.Site.String()+sp.AuthorizePath+"?state="+url.QueryEscape(state), nil)
		if got := m.provider.WantedPage(r.URL.Query()); got != want {
			t.Errorf("%q: %q, want %q", state, got, want)
		}
	}
}
