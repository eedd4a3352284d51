package moodletest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"jumpgate/gateway"
)

// OAuth2Service is an entry under "OAuth 2 services" of a Moodle, with its field
// mappings as Jumpgate wants them.
type OAuth2Service struct {
	ID           int64
	BaseURL      string // of the provider, where it is discovered on first use
	ClientID     string
	ClientSecret string
	Confirm      bool // "Require email verification"
	Unmarked     bool // sub is not mapped to idnumber
}

// oauth2 is the plugin auth_oauth2 of a site.
type oauth2 struct {
	OAuth2Service

	mu        sync.Mutex
	endpoints struct {
		Token    string `json:"token_endpoint"`
		UserInfo string `json:"userinfo_endpoint"`
	}
	links map[string]int64 // linked logins: ids of users by name at the provider
}

// claims are what the plugin reads of a user.
type claims struct {
	Subject  string `json:"sub"`
	Username string `json:"preferred_username"`
	First    string `json:"given_name"`
	Last     string `json:"family_name"`
	Email    string `json:"email"`
	Locale   string `json:"locale"`
	City     string `json:"city"`
	Country  string `json:"country"`
}

// oauth2Login is /auth/oauth2/login.php with a code, as a real one was seen to do
// it: it takes codes in a form too, and does not look at wantsurl.
func (q *request) oauth2Login() {
	o := q.oauth2
	if !q.confirmSesskey() {
		q.fail("Your session has most likely timed out. Please log in again. https://docs.moodle.org/405/en/error/moodle/invalidsesskey")
		return
	}
	if q.r.FormValue("id") != strconv.FormatInt(o.ID, 10) {
		q.fail("Can't find data record in database. https://docs.moodle.org/405/en/error/moodle/invalidrecord")
		return
	}
	code := q.r.FormValue("oauth2code")
	if code == "" {
		q.fail("The stand-in asks nobody for authorization")
		return
	}
	who, err := o.ask(q.r.Context(), q.client, q.url("/admin/oauth2callback.php"), code)
	if err != nil {
		q.fail("Could not upgrade OAuth token: " + err.Error() + " https://docs.moodle.org/405/en/error/core_error/oauth2upgradetokenerror")
		return
	}
	u, ok := q.oauth2User(who)
	switch {
	case !ok && o.Confirm:
		q.render(http.StatusOK, "notice.html", map[string]any{"Heading": "Account confirmation", "Message": "An email should have been sent to your address"})
	case !ok:
		q.s.data().set("loginerrormsg", "Invalid login, please try again")
		q.redirect(q.url("/login/index.php"))
	default:
		q.beginLogin(u)
		target := q.r.FormValue("wantsurl")
		if !q.localURL(target) { // so that the stand-in itself is no open redirect
			target = q.url("/")
		}
		q.redirect(target)
	}
}

// oauth2User returns the account of a login: the one that it is linked to, or any
// local one of its mail address, which is then, or a new one. False means that
// there is none, or that nobody is let in.
func (q *request) oauth2User(who claims) (User, bool) {
	o := q.oauth2
	o.mu.Lock()
	defer o.mu.Unlock()
	username := strings.ToLower(strings.TrimSpace(cmp.Or(who.Username, who.Email)))
	told := func(u *User) {
		u.FirstName, u.LastName, u.Email = who.First, who.Last, who.Email
		u.City, u.Country = cmp.Or(who.City, u.City), cmp.Or(who.Country, u.Country)
		if !o.Unmarked {
			u.IDNumber = who.Subject
		}
	}
	if id, linked := o.links[username]; linked {
		if u, ok := q.users.byID(id); ok && !u.Deleted {
			return q.oauth2Updated(u, told), !u.Suspended
		}
	}
	u, ok := q.users.find(func(u *User) bool {
		return u.MnetHostID == localHostID && !u.Deleted && strings.EqualFold(u.Email, who.Email)
	})
	if ok && !o.Confirm {
		o.links[username] = u.ID
		return q.oauth2Updated(u, told), true // a suspended one too: the session ends with the next page
	}
	if _, taken := q.users.byName(username, localHostID); taken || o.Confirm {
		return User{}, false
	}
	u = User{User: gateway.User{Username: username, Auth: "oauth2", Lang: strings.ReplaceAll(strings.ToLower(who.Locale), "-", "_")}}
	told(&u)
	u, err := q.users.add(u)
	o.links[username] = u.ID
	return u, err == nil
}

// oauth2Updated brings an account up to date, if it is one of the plugin's own.
func (q *request) oauth2Updated(u User, told func(*User)) User {
	if u.Auth == "oauth2" {
		q.users.update(u.ID, told)
		told(&u)
	}
	return u
}

// ask redeems a code and asks whom the token is about.
func (o *oauth2) ask(ctx context.Context, client *http.Client, callback, code string) (who claims, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.endpoints.Token == "" {
		if err := fetchJSON(ctx, client, http.MethodGet, o.BaseURL+"/.well-known/openid-configuration", "", nil, &o.endpoints); err != nil {
			return who, err
		}
	}
	var token struct {
		Access string `json:"access_token"`
	}
	err = fetchJSON(ctx, client, http.MethodPost, o.endpoints.Token, "", url.Values{
		"code": {code}, "grant_type": {"authorization_code"}, "redirect_uri": {callback}, "client_id": {o.ClientID}, "client_secret": {o.ClientSecret},
	}, &token)
	if err != nil {
		return who, err
	}
	return who, fetchJSON(ctx, client, http.MethodGet, o.endpoints.UserInfo, token.Access, nil, &who)
}

func fetchJSON(ctx context.Context, client *http.Client, method, address, bearer string, form url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(into)
}

// Link links what the OAuth 2 service calls a user to an account.
func (f *Forum) Link(name string, userID int64) {
	f.oauth2.mu.Lock()
	defer f.oauth2.mu.Unlock()
	f.oauth2.links[name] = userID
}
