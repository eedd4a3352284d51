package moodletest

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// serveSP adds what auth_mnet does on the side where people come from
// elsewhere.
func (m *mnetSite) serveSP() {
	m.page("/auth/mnet/land.php", m.land)
	m.methods["auth/mnet/auth.php/kill_child"] = m.killChild
	m.methods["auth/mnet/auth.php/keepalive_client"] = func(context.Context, *mnetPeer, []mnet.Value) (mnet.Value, error) {
		return nil, nil
	}
}

// land is /auth/mnet/land.php of a stock 4.5 site. Whoever is logged in
// already is replaced, as there.
func (m *mnetSite) land(q *request) {
	query := q.r.URL.Query()
	for _, name := range []string{"token", "idp", "wantsurl"} {
		if !query.Has(name) {
			q.fail("A required parameter (" + name + ") was missing")
			return
		}
	}
	home := m.peerNamed(query.Get("idp"))
	if home == nil || !home.Subscribes(gateway.ServiceSSOIDP) {
		q.fail("You do not have permission to begin a remote session.")
		return
	}
	u, problem := m.confirm(q, home, query.Get("token"))
	if problem != "" {
		q.fail(problem)
		return
	}
	q.beginLogin(u)
	q.s.data().unset("wantsurl")
	m.landRow(mnetSession{
		userID: u.ID, username: u.Username, hostID: home.id, userAgent: userAgentHash(q.r),
		token: query.Get("token"), confirmBy: q.now(), sid: q.s.sid,
	})
	root := m.wwwroot.String()
	if v := query.Get("remoteurl"); v != "" && v != "0" {
		root = home.Wwwroot.String()
	}
	q.redirect(root + m.cleanLocalURL(query.Get("wantsurl")))
}

// confirm redeems the token at the home and returns the account of whom it
// names, new or brought up to date. A problem is one of Moodle's sentences.
func (m *mnetSite) confirm(q *request, home *mnetPeer, token string) (u User, problem string) {
	v, err := m.call(q.r.Context(), home, "auth/mnet/auth.php/user_authorise", token, userAgentHash(q.r))
	if err != nil {
		return u, "Ooops! Your MNET communication has failed! Here's that error message to pass on to your administrator: " + rpcError(err)
	}
	remote, _ := v.(mnet.Struct)
	text := func(name string) string {
		field, _ := remote.Get(name)
		return mnet.Text(field)
	}
	switch {
	case text("username") == "":
		return u, "Unknown error occurred during negotiation."
	case text("firstname") == "" || text("lastname") == "" || text("email") == "":
		return u, "Your identity provider is not giving us enough information to create or update your account locally. Sorry!"
	}
	profile := profileOf(remote, home.id)
	known, ok := m.users.byName(strings.ToLower(profile.Username), home.id)
	if !ok {
		u, err := m.users.add(User{User: profile})
		if err != nil { // two first landings at once
			return u, "Unknown error occurred during negotiation."
		}
		m.refetchIcon(q.r.Context(), home, u, remote)
		return u, ""
	}
	profile.ID, profile.Picture, profile.Suspended = known.ID, known.Picture, known.Suspended
	m.users.update(known.ID, func(u *User) { u.User = profile })
	m.refetchIcon(q.r.Context(), home, known, remote)
	// The home is told of the enrolments of those who return; whether it
	// wants to know does not matter here.
	_, _ = m.call(q.r.Context(), home, "auth/mnet/auth.php/update_enrolments", profile.Username, mnet.Array{})
	return User{User: profile}, ""
}

// profileOf returns the account that a user struct describes.
func profileOf(remote mnet.Struct, hostID int64) gateway.User {
	text := func(name string) string {
		field, _ := remote.Get(name)
		return mnet.Text(field)
	}
	return gateway.User{
		Username: text("username"), FirstName: text("firstname"), LastName: text("lastname"), Email: text("email"),
		City: text("city"), Country: text("country"), Lang: strings.TrimSuffix(text("lang"), "_utf8"),
		Timezone: text("timezone"), Description: text("description"), MailFormat: text("mailformat"),
		MailDigest: text("maildigest"), MailDisplay: text("maildisplay"), Auth: "mnet", MnetHostID: hostID,
	}
}

// refetchIcon fetches the picture of who has a newer one at home. Moodle looks
// at the date only in a struct that has the field picture too, and of the
// answer at f1 alone.
func (m *mnetSite) refetchIcon(ctx context.Context, home *mnetPeer, u User, remote mnet.Struct) {
	modified, _ := remote.Get("_mnet_userpicture_timemodified")
	seconds, _ := mnet.Int(modified)
	if _, ok := remote.Get("picture"); !ok || seconds == 0 || int64(seconds) <= u.IconTime.Unix() {
		return
	}
	v, err := m.call(ctx, home, "auth/mnet/auth.php/fetch_user_image", u.Username)
	if err != nil {
		return
	}
	pictures, _ := v.(mnet.Struct)
	f1, _ := pictures.Get("f1")
	if icon := phpBase64(mnet.Text(f1)); len(icon) > 0 {
		m.users.update(u.ID, func(u *User) { u.Icon, u.IconTime, u.Picture = icon, m.now(), "1" })
	}
}

// rpcError lays an error out as Moodle's message does.
func rpcError(err error) string {
	var refused *mnet.Fault
	if errors.As(err, &refused) {
		return "ERROR " + strconv.Itoa(refused.Code) + ": " + refused.String
	}
	return err.Error()
}

// cleanLocalURL is PARAM_LOCALURL: absolute URLs of others become nothing, but
// a path may lack its slash, and then the host name grows. Stock Moodle has
// that fault, so the stand-in has it too.
func (m *mnetSite) cleanLocalURL(s string) string {
	switch {
	case strings.HasPrefix(s, "/"):
		return s
	case strings.HasPrefix(s, m.wwwroot.String()+"/"):
		return s
	}
	if u, err := url.Parse(s); err != nil || u.Scheme != "" {
		return ""
	}
	return s
}

// killChild ends the session that a token of the caller opened.
func (m *mnetSite) killChild(ctx context.Context, caller *mnetPeer, params []mnet.Value) (mnet.Value, error) {
	if len(params) < 2 {
		return nil, errMissingParameters
	}
	username, ua := mnet.Text(params[0]), mnet.Text(params[1])
	rows := m.selectRows(func(r mnetSession) bool {
		return r.username == username && r.hostID == caller.id && r.userAgent == ua
	}, true)
	for _, r := range rows {
		if err := m.store.destroy(ctx, r.sid, r.userID); err != nil {
			return nil, err
		}
	}
	return len(rows) > 0, nil
}

// loginHomes lists the sites whose accounts may be used here, each with the
// jump that leads back to the page that was wanted (loginpage_idp_list).
func (q *request) loginHomes() []homeLink {
	if q.mnet == nil || q.kind != "forum" {
		return nil
	}
	wantsurl := strings.ReplaceAll(q.s.data().text("wantsurl"), q.wwwroot.String(), "")
	var links []homeLink
	for _, p := range q.mnet.hosts() {
		if p.Publishes(gateway.ServiceSSOSP) {
			links = append(links, homeLink{Name: p.Label(), URL: p.Wwwroot.String() + p.Application.JumpPath() +
				"?hostwwwroot=" + phpEscape(q.wwwroot.String()) + "&wantsurl=" + phpEscape(wantsurl) + "&remoteurl=1"})
		}
	}
	return links
}
