package moodle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"jumpgate/gateway"
)

const (
	webTimeout  = 10 * time.Second // for all that one Identity asks of Moodle
	maxAnswer   = 512 << 10        // bytes of a page or a web service's answer
	maxCacheTTL = time.Minute
)

// WebOptions says how to ask a Moodle over HTTP.
type WebOptions struct {
	Upstream *url.URL        // where Moodle listens; the wwwroot's path is appended
	Site     gateway.Wwwroot // what it is called: Host header and path
	Cookie   string          // name of the session cookie, default DefaultCookie

	// Transport carries the requests, as they are and without following
	// redirects; by default straight to the upstream.
	Transport http.RoundTripper

	// Token returns a web service token that may call
	// core_user_get_users_by_field by REST for any user (capabilities:
	// webservice/rest:use, user:viewdetails, user:viewalldetails,
	// site:viewuseridentity). If it is nil or returns "" the browser's own
	// session is asked for its own record, which needs no setup in Moodle.
	Token func() string

	MFA bool // the site uses tool_mfa

	// Incomplete says that a login which lacks something is PasswordDue, and not
	// nobody's, whatever it lacks; and that a login page which leads elsewhere
	// answers nothing. Then the page is asked that would log out, which ends the
	// session of who is not logged in: it is for those who are about to have a
	// new one.
	Incomplete bool

	Cache    Cache           // optional
	CacheTTL time.Duration   // at most a minute, which is the default
	CacheKey func() [32]byte // secret under which session ids become keys; required with Cache

	Now func() time.Time // default time.Now
}

// Web learns whose a session is from Moodle's pages and web services. A new
// session costs two requests to Moodle: the login page, which is the lightest
// one, and the user's record (one more where the page does not name the user,
// before Moodle 4.5). Answers are cached for at most a minute.
//
// Asking counts as a use of the session, and takes away the message of a failed
// login that the page would have shown: ask for a jump and when SetsSession
// says that a session is new, not after every answer.
//
// With MFA, or without a Token, the record is asked for in the browser's own
// session together with the session's real owner. Moodle then refuses as long
// as a password change or a factor is due, and a "login as" shows in two
// independent ways. With a Token and without MFA it shows in the page alone,
// and a password change that is due does not hold up a jump.
type Web struct {
	o WebOptions
}

// NewWeb returns a Web. It does not connect.
func NewWeb(o WebOptions) *Web {
	if o.Cookie == "" {
		o.Cookie = DefaultCookie
	}
	if o.CacheTTL <= 0 || o.CacheTTL > maxCacheTTL {
		o.CacheTTL = maxCacheTTL
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Transport == nil {
		o.Transport = newTransport()
	}
	return &Web{o: o}
}

// Identity says who the browser's session belongs to. A session that Moodle
// does not take for a complete login is nobody's. An error means that Moodle
// did not answer, or not in a way that leaves no doubt. Errors never contain
// the cookie, the sesskey or the token.
func (w *Web) Identity(ctx context.Context, b Browser) (gateway.Identity, error) {
	if !validSessionID(b.Session) {
		return gateway.Identity{}, nil
	}
	id, ok, err := w.cached(ctx, b.Session)
	if ok || err != nil {
		return id, err
	}
	if id, err = w.ask(ctx, b); err != nil {
		return gateway.Identity{}, fmt.Errorf("ask moodle who is logged in: %w", err)
	}
	if err := w.remember(ctx, b.Session, id); err != nil {
		return gateway.Identity{}, err
	}
	return id, nil
}

func (w *Web) ask(ctx context.Context, b Browser) (gateway.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, webTimeout)
	defer cancel()

	p, err := w.loginPage(ctx, b)
	if err == nil && w.o.Incomplete && p.elsewhere && !p.mfaPending {
		if p, err = w.page(ctx, b, PageLogout, ""); err == nil && p.elsewhere {
			err = errors.New("it leads elsewhere, and so does the page that logs out")
		}
	}
	if err != nil {
		return gateway.Identity{}, fmt.Errorf("login page: %w", err)
	}
	if p.nobody {
		return gateway.Identity{MFAPending: p.mfaPending}, nil
	}
	if p.userID == 0 { // the page does not say
		if p.userID, err = w.sessionOwner(ctx, b, p.sesskey); err != nil || p.userID == 0 {
			return w.incomplete(p, err)
		}
	}
	if p.loginAs || guest(p.userID, "") { // that will do: neither may jump
		return gateway.Identity{User: gateway.User{ID: p.userID}, LoginAs: p.loginAs, Guest: !p.loginAs}, nil
	}
	if token := w.token(); token != "" && !w.o.MFA {
		return w.recordByToken(ctx, token, p.userID)
	}
	id, err := w.recordBySession(ctx, b, p)
	if err != nil {
		return w.incomplete(p, err)
	}
	return id, nil
}

// incomplete returns whose a session is that Moodle refuses to answer because
// its login lacks something, and any other error.
func (w *Web) incomplete(p page, err error) (gateway.Identity, error) {
	refused, ok := errors.AsType[*wsException](err)
	switch {
	case !ok || !refused.loginIncomplete():
		return gateway.Identity{}, err
	case w.o.Incomplete:
		return gateway.Identity{User: gateway.User{ID: p.userID}, PasswordDue: true}, nil
	}
	return gateway.Identity{}, nil
}

func (w *Web) token() string {
	if w.o.Token == nil {
		return ""
	}
	return w.o.Token()
}

// loginPage fetches the login page as the browser would see it.
func (w *Web) loginPage(ctx context.Context, b Browser) (page, error) {
	// Else a site with an alternateloginurl sends even those who are logged
	// in there (source: login/index.php).
	return w.page(ctx, b, PageLogin, "loginredirect=0")
}

// page fetches a page as the browser would see it.
func (w *Web) page(ctx context.Context, b Browser, path, query string) (page, error) {
	req, err := w.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return page{}, err
	}
	req.URL.RawQuery = query
	w.actFor(req, b)
	status, header, body, err := w.do(req)
	switch {
	case err != nil:
		return page{}, err
	case status == http.StatusOK:
		return parsePage(body)
	case status >= 300 && status < 400:
		// Not followed: it leads to a form, to another site, or, from
		// every page while tool_mfa waits for a factor, to that.
		target, err := url.Parse(header.Get("Location"))
		after, changed := SetsSession(header, w.o.Cookie)
		return page{
			nobody: true, elsewhere: !changed || after == b.Session,
			mfaPending: err == nil && strings.HasSuffix(target.Path, PageMFA),
		}, nil
	}
	return page{}, fmt.Errorf("status %d", status)
}

// request builds a request to a page below the wwwroot.
func (w *Web) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	return newRequest(ctx, w.o.Upstream, w.o.Site, method, path, body)
}

// actFor makes the request the browser's, with no cookie but the session's.
func (w *Web) actFor(req *http.Request, b Browser) {
	req.Header.Set("Cookie", w.o.Cookie+"="+b.Session)
	req.Header.Set("User-Agent", b.UserAgent)
	if b.Addr != (netip.Addr{}) {
		req.Header.Set("X-Forwarded-For", b.Addr.Unmap().String())
	}
}

// do returns the status, the header and the beginning of the body.
func (w *Web) do(req *http.Request) (int, http.Header, []byte, error) {
	resp, err := w.o.Transport.RoundTrip(req) // an http.Client's errors quote the URL, and that the sesskey
	if err != nil {
		return 0, nil, nil, gateway.Unquoted(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, resp.Header, body, gateway.Unquoted(err)
}
