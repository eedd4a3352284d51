package moodletest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// jump is /auth/xmlrpc/jump.php: it takes wr and ins, and hands wantsurl on as
// it came.
func (m *Mahara) jump(w http.ResponseWriter, r *http.Request, u User) {
	query := r.URL.Query()
	for _, name := range []string{"wr", "ins"} {
		if !query.Has(name) {
			m.page(w, http.StatusOK, "Mahara: Invalid Parameter", "Missing parameter '"+name+"' and no default supplied")
			return
		}
	}
	p := m.peerNamed(strings.TrimSuffix(query.Get("wr"), "/"))
	if p == nil || !p.Publishes(gateway.ServiceSSOIDP) || u.MnetHostID != localHostID {
		m.page(w, http.StatusForbidden, "Access denied", "Host not approved for sso")
		return
	}
	c, _ := r.Cookie(maharaCookie)
	token := randomText(40, hexAlphabet)
	m.mu.Lock()
	m.jumps[u.ID] = maharaJump{token: token, expires: m.options.Now().Add(maharaLifetime), cookie: c.Value}
	m.mu.Unlock()
	redirectMahara(w, p.Wwwroot.String()+p.Application.LandPath()+"?token="+token+"&idp="+m.wwwroot.String()+
		"&wantsurl="+query.Get("wantsurl"))
}

// land is /auth/xmlrpc/land.php. It forgets who was logged in before it knows
// who comes.
func (m *Mahara) land(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	for _, name := range []string{"token", "idp"} {
		if !query.Has(name) {
			m.page(w, http.StatusOK, "Mahara: Invalid Parameter", "Missing parameter '"+name+"' and no default supplied")
			return
		}
	}
	home := m.peerNamed(query.Get("idp"))
	if home == nil {
		m.page(w, http.StatusOK, "Mahara: Invalid Parameter",
			"We do not seem to have any authentication plugin instances configured for the host at "+url.QueryEscape(query.Get("idp"))+".")
		return
	}
	m.logOut(r)
	u, err := m.authorise(r, home, query.Get("token"))
	switch {
	case errors.Is(err, errUnknownUser):
		m.page(w, http.StatusNotFound, "Unable to sign in", "We were unable to authenticate you at this time.")
		return
	case err != nil:
		m.page(w, http.StatusOK, "Sorry, we could not log you in.", strings.NewReplacer("<", "&lt;", "&", "&amp;").Replace(err.Error()))
		return
	}
	m.logIn(w, u.ID, home)
	wantsurl := "/"
	if query.Has("wantsurl") {
		wantsurl = query.Get("wantsurl")
	}
	switch query.Get("remoteurl") {
	case "", "0", "off", "no", "false":
		redirectMahara(w, m.wwwroot.String()+"/"+strings.TrimLeft(wantsurl, "/"))
	default:
		redirectMahara(w, home.Wwwroot.String()+wantsurl)
	}
}

// errUnknownUser is what Mahara makes of an answer that names nobody, and of
// somebody whom it does not know and may not make an account for.
var errUnknownUser = errors.New("nobody we know")

// authorise redeems a token and returns the account of whom it names
// (request_user_authorise (source)). All other errors than errUnknownUser end
// in a page that says that the login failed.
func (m *Mahara) authorise(r *http.Request, home *maharaPeer, token string) (User, error) {
	if !home.Subscribes(gateway.ServiceSSOIDP) {
		return User{}, errors.New("we do not accept SSO connections from " + home.Label())
	}
	v, err := m.call(r.Context(), home, "auth/mnet/auth.php/user_authorise", token, userAgentHash(r))
	if err != nil {
		return User{}, err
	}
	remote, _ := v.(mnet.Struct)
	profile := profileOf(remote, home.id+localHostID)
	if profile.Username == "" {
		return User{}, errUnknownUser
	}
	known, ok := m.users.byName(strings.ToLower(profile.Username), profile.MnetHostID)
	switch {
	case ok && (known.Suspended || known.Deleted):
		return User{}, errUnknownUser
	case ok && !m.options.UpdateUsers:
		return known, nil
	case !ok && m.options.NoNewUsers:
		return User{}, errUnknownUser
	}
	// The database takes no null and no text in another encoding.
	for _, text := range []string{profile.FirstName, profile.LastName, profile.Email, profile.City, profile.Description} {
		if !utf8.ValidString(text) {
			return User{}, fmt.Errorf("invalid byte sequence for encoding UTF8: %q", text)
		}
	}
	if profile.FirstName == "" || profile.LastName == "" || profile.Email == "" {
		return User{}, errors.New("null value violates not-null constraint")
	}
	profile.Country, profile.Lang = strings.ToLower(profile.Country), ""
	if ok {
		profile.ID, profile.Picture = known.ID, known.Picture
		m.users.update(known.ID, func(u *User) { u.User = profile })
	} else if known, err = m.users.add(User{User: profile}); err != nil {
		return User{}, err
	}
	return known, m.fetchIcon(r, home, profile.Username, known.ID)
}

// fetchIcon follows every login that makes or changes an account, whatever the
// user struct says of pictures. A fault ends the login, and so does, on PHP 8,
// an answer that is no map: the account is there then, but nobody is in it.
func (m *Mahara) fetchIcon(r *http.Request, home *maharaPeer, username string, userID int64) error {
	v, err := m.call(r.Context(), home, "auth/mnet/auth.php/fetch_user_image", username)
	if err != nil {
		return err
	}
	pictures, ok := mnet.Map(v)
	if !ok {
		return errors.New("array_key_exists(): Argument #2 ($array) must be of type array")
	}
	f1, _ := pictures.Get("f1")
	if icon := phpBase64(mnet.Text(f1)); len(icon) > 0 {
		m.users.update(userID, func(u *User) { u.Icon, u.IconTime = icon, m.options.Now() })
	}
	return nil
}

// Account returns the account that somebody from a home has here.
func (m *Mahara) Account(home gateway.Wwwroot, username string) (User, bool) {
	i := slices.IndexFunc(m.peers, func(p *maharaPeer) bool { return p.Wwwroot == home })
	if i < 0 {
		return User{}, false
	}
	return m.users.byName(username, m.peers[i].id+localHostID)
}
