package idp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
)

// CallbackPath is where, below the wwwroot, an OpenID provider sends learners
// back to.
const CallbackPath = "/jumpgate/oidc/callback"

// jumpByLogin takes a jump that may take place to its end: with a login that
// the browser made a while ago it lands, else the learner goes to the OpenID
// provider, and Callback takes them on. Moodle is not asked. It costs two round
// trips: between them it is decided who may jump, and the login is sealed into
// the token under their name.
func (p *Provider) jumpByLogin(w http.ResponseWriter, r *http.Request, a Answer) Answer {
	login, cookie, err := p.login(r)
	switch {
	case err != nil:
		a.Err = err
		return a
	case login.User.Username == "":
		return p.rememberLogin(w, r, a)
	}
	return p.vouch(r, a, cookie, login.User, store.PerAddress(p.Client(r), p.Rates.Address))
}

// LeadsToLogin reports whether an address is that of the login at the OpenID
// provider, if there is one.
func (p *Provider) LeadsToLogin(address string) bool {
	return p.OpenID != nil && p.OpenID.leads(address)
}

// vouch lets a user for whom the provider vouches jump, if nothing forbids it.
// The session at home from which they leave is their login with us. The charges
// are those besides p.landing's.
func (p *Provider) vouch(r *http.Request, a Answer, login string, user gateway.User, charges ...store.Charge) Answer {
	who := gateway.Identity{User: user}
	if a = p.admit(r, a, login, who); a.final() {
		return a
	}
	token, err := p.Store.Mint(r.Context(), p.grant(r, a, login, who), append(charges, p.landing(a)...)...)
	if err != nil {
		return a.failed(err)
	}
	return p.land(a, token)
}

// login returns the login of a browser and the value of its cookie; the zero
// Login for none. What another provider once said does not count.
func (p *Provider) login(r *http.Request) (store.Login, string, error) {
	cookie, err := r.Cookie(p.loginCookie)
	if err != nil {
		return store.Login{}, "", nil
	}
	login, ok, err := p.Store.Login(r.Context(), cookie.Value)
	if err != nil || !ok || login.Issuer != p.OpenID.Issuer {
		return store.Login{}, "", err
	}
	return login, cookie.Value, nil
}

// rememberLogin keeps a jump until its learner comes back from the provider.
func (p *Provider) rememberLogin(w http.ResponseWriter, r *http.Request, a Answer) Answer {
	found, err := p.OpenID.discover(r.Context())
	if err != nil {
		a.Err = err
		return a
	}
	browser := p.Browsers.Open(r, p.browserCookie)
	jump, err := p.Browsers.PlantLogin(browser, a.planted())
	if err == nil {
		err = p.Browsers.Save(r, w, browser)
	}
	if err != nil {
		return a.failed(err)
	}
	a.Location = p.OpenID.loginPage(found, store.Ref(browser, jump), jump)
	return a
}

// Callback answers a browser that comes back from the OpenID provider: the
// jump that it left for takes place, once, and only in the browser in which it
// began. That keeps a stranger from sending somebody the address that ends the
// stranger's own login.
func (p *Provider) Callback(w http.ResponseWriter, r *http.Request) Answer {
	back, ok := parseCallback(r.URL.RawQuery)
	switch {
	case !ok:
		return Answer{}.refuse(gateway.RuleLoginMalformed)
	case !gateway.Navigation(r.Header):
		return Answer{}.refuse(gateway.RuleNotNavigation)
	case r.Method == http.MethodHead:
		return Answer{}
	}
	browser := p.Browsers.Open(r, p.browserCookie)
	if !store.Owns(browser, back.state) {
		return Answer{}.refuse(gateway.RuleLoginElsewhere)
	}
	jump, ok, err := p.Browsers.Take(r.Context(), back.state)
	switch {
	case err != nil:
		return Answer{Err: err}
	case !ok:
		return Answer{}.refuse(gateway.RuleLoginOver)
	}
	a := p.resume(jump)
	if !a.Refused {
		a = p.completeLogin(w, r, a, back, jump)
	}
	_ = p.Browsers.End(r, w, browser) // or it ends when its time has come
	return a
}

// completeLogin asks the provider who came back, and lets the jump take place
// or says why it does not.
func (p *Provider) completeLogin(w http.ResponseWriter, r *http.Request, a Answer, back callback, jump store.Jump) Answer {
	switch {
	case back.issuer != "" && back.issuer != p.OpenID.Issuer: // RFC 9207
		a.Cause = fmt.Errorf("the answer is another issuer's: %.200q", back.issuer)
		return a.refuse(gateway.RuleLoginInvalid)
	case back.failure == "server_error" || back.failure == "temporarily_unavailable":
		a.Err = fmt.Errorf("openid provider: %s: %.200q", back.failure, back.description)
		return a
	case back.failure != "":
		a.Cause = fmt.Errorf("openid provider: %.50q: %.200q", back.failure, back.description)
		return a.refuse(gateway.RuleLoginDenied)
	}
	ctx, cancel := context.WithTimeout(r.Context(), loginTimeout)
	defer cancel()
	said, err := p.OpenID.redeem(ctx, back.code, jump)
	switch {
	case errors.Is(err, errNotVouched):
		a.Cause = err
		return a.refuse(gateway.RuleLoginInvalid)
	case err != nil:
		a.Err = err
		return a
	}
	user, rule, lacking, cause := p.OpenID.user(said)
	a.Username, a.Lacking, a.Cause = user.Username, lacking, cause
	if rule != gateway.RuleOK {
		return a.refuse(rule)
	}
	login, err := p.beginLogin(w, r, user)
	if err != nil {
		a.Err = err
		return a
	}
	return p.vouch(r, a, login, user)
}

// beginLogin spares the learner the provider for a while, and returns the value
// of the cookie. It is always a new one: whoever knew one of before is not
// logged in by it. The cookie outlives the login if the sessions at peers do:
// it is what a logout at home ends them by.
func (p *Provider) beginLogin(w http.ResponseWriter, r *http.Request, user gateway.User) (string, error) {
	if former, err := r.Cookie(p.loginCookie); err == nil {
		_ = p.Store.EndLogin(r.Context(), former.Value) // or it ends when its time has come
	}
	cookie, err := p.Store.BeginLogin(r.Context(), store.Login{Issuer: p.OpenID.Issuer, User: user}, p.OpenID.Session)
	if err != nil {
		return "", err
	}
	http.SetCookie(w, &http.Cookie{
		Name: p.loginCookie, Value: cookie, Path: "/", MaxAge: int(max(p.OpenID.Session, p.SessionTimeout) / time.Second),
		HttpOnly: true, Secure: p.Site.Scheme() == "https", SameSite: http.SameSiteLaxMode,
	})
	return cookie, nil
}

// callback is what a provider tells by way of the browser (RFC 6749, section
// 4.1.2): a code, or why there is none.
type callback struct {
	state, code, failure, description, issuer string
}

// maxCallback is the longest query of a callback, in bytes. Providers' codes
// have up to a few thousand.
const maxCallback = 16 << 10

// parseCallback reads the query of a callback. What is given twice might be
// read differently by somebody else.
func parseCallback(raw string) (callback, bool) {
	query, err := url.ParseQuery(raw)
	if len(raw) > maxCallback || err != nil {
		return callback{}, false
	}
	var back callback
	for name, field := range map[string]*string{
		"state": &back.state, "code": &back.code, "iss": &back.issuer,
		"error": &back.failure, "error_description": &back.description,
	} {
		if len(query[name]) > 1 {
			return callback{}, false
		}
		*field = query.Get(name)
	}
	return back, back.state != "" && (back.code == "") != (back.failure == "")
}
