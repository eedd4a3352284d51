package moodle

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"jumpgate/gateway"
)

// Headers by which Moodle's core plugin auth_shibboleth, configured so, learns
// who is logged in. Whoever can send them to Moodle is whom they name: no client
// of the proxy can, in any spelling.
const (
	HeaderUsername  = "X-Jumpgate-Username"
	HeaderFirstName = "X-Jumpgate-Firstname"
	HeaderLastName  = "X-Jumpgate-Lastname"
	HeaderEmail     = "X-Jumpgate-Email"
	HeaderCity      = "X-Jumpgate-City"
	HeaderCountry   = "X-Jumpgate-Country"
	HeaderLang      = "X-Jumpgate-Lang"
)

// AuthHeader is the user.auth of accounts of the plugin.
const AuthHeader = "shibboleth"

// HeaderLoginPath is where, below the wwwroot, the pages of the plugin are.
const HeaderLoginPath = "/auth/shibboleth"

const pageHeaderLogin = HeaderLoginPath + "/index.php"

// ErrLoginRefused says that Moodle does not log somebody in: because of the
// account, or because the plugin is not set up.
var ErrLoginRefused = errors.New("moodle logs nobody in")

// Login is a session that Moodle has begun for us.
type Login struct {
	Session string   // the new session's id: whose it is, nobody has looked yet
	Cookies []string // all Set-Cookie fields of Moodle's answer, Session's among them
}

// HeaderLogin has Moodle log a user in, in a new session, and make the account
// if there is none of that username. Of u, Username and the fields that have a
// header count; none has a control character in it. The browser's address and
// User-Agent are what Moodle notes; its session plays no role, since a session of
// somebody else's would win over the headers (source: auth/shibboleth/index.php).
// All headers are always sent: a field whose header is missing is emptied.
//
// The error is ErrLoginRefused, or that Moodle does not answer as it should.
// Errors never contain what is sent.
func (w *Web) HeaderLogin(ctx context.Context, b Browser, u gateway.User) (Login, error) {
	ctx, cancel := context.WithTimeout(ctx, webTimeout)
	defer cancel()
	login, err := w.headerLogin(ctx, b, u)
	if err != nil {
		return Login{}, fmt.Errorf("header login: %w", err)
	}
	return login, nil
}

func (w *Web) headerLogin(ctx context.Context, b Browser, u gateway.User) (Login, error) {
	req, err := w.request(ctx, http.MethodGet, pageHeaderLogin, nil)
	if err != nil {
		return Login{}, err
	}
	w.actFor(req, b)
	req.Header.Del("Cookie")
	for name, value := range map[string]string{
		HeaderUsername: u.Username, HeaderFirstName: u.FirstName, HeaderLastName: u.LastName, HeaderEmail: u.Email,
		HeaderCity: u.City, HeaderCountry: u.Country, HeaderLang: u.Lang,
	} {
		req.Header.Set(name, headerValue(value))
	}
	status, header, body, err := w.do(req)
	if err != nil {
		return Login{}, err
	}
	session, set := SetsSession(header, w.o.Cookie)
	switch {
	case status == http.StatusSeeOther && set && session != "":
		return Login{session, header["Set-Cookie"]}, nil
	case status == http.StatusSeeOther:
		return Login{}, fmt.Errorf("%w: it sets no cookie %s, which identity.cookie says is that of its sessions", ErrLoginRefused, w.o.Cookie)
	case status >= 300 && status < 500:
		return Login{}, fmt.Errorf("%w: status %d%s", ErrLoginRefused, status, pluginError(body))
	}
	return Login{}, fmt.Errorf("status %d", status)
}

// headerValue returns a value as the plugin reads it: it takes a semicolon for
// the end (source: get_first_string).
func headerValue(s string) string { return strings.ReplaceAll(s, ";", ",") }
