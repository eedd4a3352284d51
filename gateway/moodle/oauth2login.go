package moodle

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

const (
	// AuthOAuth2 is the user.auth of accounts that Moodle's core plugin auth_oauth2
	// has made.
	AuthOAuth2 = "oauth2"
	// AuthMNet is that of accounts of other sites.
	AuthMNet = "mnet"

	// OAuth2CallbackPath is where, below the wwwroot, a Moodle wants codes to be
	// brought: it names it when it redeems one.
	OAuth2CallbackPath = "/admin/oauth2callback.php"

	pageOAuth2Login = "/auth/oauth2/login.php"
)

// OAuth2Login has Moodle log in, in a new session, whom a code stands for: it
// redeems the code meanwhile at the OAuth 2 service that is its number issuerID,
// which is us, and asks there who that is. The browser's address and User-Agent are
// what Moodle notes; its session plays no role. Two requests: the login page, for a
// session and its key, and the login, as a form, so that no access log has the code
// (source: auth/oauth2/login.php).
//
// The error is ErrLoginRefused, or that Moodle does not answer as it should.
// Errors never contain what is sent.
func (w *Web) OAuth2Login(ctx context.Context, b Browser, issuerID int64, code string) (Login, error) {
	ctx, cancel := context.WithTimeout(ctx, webTimeout)
	defer cancel()
	session, sesskey, err := w.anonymous(ctx, b)
	if err != nil {
		return Login{}, fmt.Errorf("oauth2 login: login page: %w", err)
	}
	login, err := w.oauth2Login(ctx, Browser{Session: session, Addr: b.Addr, UserAgent: b.UserAgent}, url.Values{
		"id": {strconv.FormatInt(issuerID, 10)}, "wantsurl": {w.o.Site.String() + "/"}, "sesskey": {sesskey}, "oauth2code": {code},
	})
	if err != nil {
		return Login{}, fmt.Errorf("oauth2 login: %w", err)
	}
	return login, nil
}

// anonymous begins a session of nobody's, and returns the key of its forms.
func (w *Web) anonymous(ctx context.Context, b Browser) (session, sesskey string, err error) {
	req, err := w.request(ctx, http.MethodGet, PageLogin, nil)
	if err != nil {
		return "", "", err
	}
	req.URL.RawQuery = "loginredirect=0"
	w.actFor(req, b)
	req.Header.Del("Cookie")
	status, header, body, err := w.do(req)
	if err != nil {
		return "", "", err
	}
	session, _ = SetsSession(header, w.o.Cookie)
	switch {
	case status != http.StatusOK:
		return "", "", fmt.Errorf("status %d", status)
	case session == "":
		return "", "", fmt.Errorf("%w: it sets no cookie %s, which identity.cookie says is that of its sessions", ErrLoginRefused, w.o.Cookie)
	}
	p, err := parsePage(body)
	switch {
	case err != nil:
		return "", "", err
	case !p.nobody || p.sesskey == "":
		return "", "", errors.New("without a session, it is somebody's")
	}
	return session, p.sesskey, nil
}

func (w *Web) oauth2Login(ctx context.Context, b Browser, form url.Values) (Login, error) {
	req, err := w.request(ctx, http.MethodPost, pageOAuth2Login, []byte(form.Encode()))
	if err != nil {
		return Login{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w.actFor(req, b)
	status, header, body, err := w.do(req)
	if err != nil {
		return Login{}, err
	}
	session, _ := SetsSession(header, w.o.Cookie)
	switch {
	case status == http.StatusSeeOther && session != "" && session != b.Session:
		return Login{session, header["Set-Cookie"]}, nil
	case status == http.StatusSeeOther:
		return Login{}, fmt.Errorf("%w: the account is suspended, accounts may not be created (authpreventaccountcreation), another account has the name, "+
			"or the OAuth 2 service does not take the domain of the mail address", ErrLoginRefused)
	case status == http.StatusOK:
		return Login{}, fmt.Errorf("%w: it wants a mail to be answered first: switch off \"Require email verification\" of the OAuth 2 service", ErrLoginRefused)
	case status >= 300 && status < 500:
		return Login{}, fmt.Errorf("%w: status %d%s", ErrLoginRefused, status, pluginError(body))
	}
	return Login{}, fmt.Errorf("status %d%s", status, pluginError(body))
}

// Account is what a web service token may see of an account.
type Account struct {
	ID       int64
	Username string
	Auth     string // name of the plugin that logs it in
	Mail     string
	IDNumber string
}

// AccountsBy returns the accounts that have a value in a field, "username" or
// "email": those of the site itself, as Moodle looks for them before it links a
// login to one (source: get_user_by_email in lib/classes/user.php), and those of
// other sites. It needs a web service token with the capabilities that
// WebOptions.Token names; without them it may find none.
func (w *Web) AccountsBy(ctx context.Context, token, field, value string) ([]Account, error) {
	ctx, cancel := context.WithTimeout(ctx, webTimeout)
	defer cancel()
	users, err := w.usersByToken(ctx, token, field, value)
	if refused, ok := errors.AsType[*wsException](err); ok && refused.loginIncomplete() {
		err = fmt.Errorf("%w: the token's user has to agree to the site's policies, fill in the profile or change the password", err)
	}
	if err != nil {
		return nil, err
	}
	var accounts []Account
	for _, u := range users {
		accounts = append(accounts, Account{u.ID, u.Username, u.Auth, u.Email, u.IDNumber})
	}
	return accounts, nil
}
