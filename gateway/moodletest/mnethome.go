package moodletest

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// serveIDP adds what auth_mnet does on the side where the accounts live.
func (m *mnetSite) serveIDP() {
	m.page("/auth/mnet/jump.php", m.jump)
	const a = "auth/mnet/auth.php/"
	m.methods[a+"user_authorise"] = m.userAuthorise
	m.methods[a+"update_enrolments"] = updateEnrolments
	m.methods[a+"keepalive_server"] = m.keepaliveServer
	m.methods[a+"kill_children"] = m.killChildrenMethod
	m.methods[a+"fetch_user_image"] = m.fetchUserImage
	m.methods[a+"fetch_theme_info"] = m.fetchThemeInfo
	m.methods[a+"refresh_log"] = func(context.Context, *mnetPeer, []mnet.Value) (mnet.Value, error) {
		return mnet.Struct{{Name: "code", Value: 0}, {Name: "message", Value: "All ok"}}, nil
	}
}

// tokenLife is Moodle's rpc_negotiation_timeout.
const tokenLife = 30 * time.Second

// jump is /auth/mnet/jump.php of a stock 4.5 site where everybody may roam.
func (m *mnetSite) jump(q *request) {
	query := q.r.URL.Query()
	hostID, _ := strconv.ParseInt(query.Get("hostid"), 10, 64)
	if !q.s.loggedIn() || q.s.guest() {
		q.s.data().set("wantsurl", q.url(jumpPath(query)))
		q.redirect(q.url("/login/index.php"))
		return
	}
	if hostID == 0 {
		name := strings.TrimRight(strings.TrimSpace(query.Get("hostwwwroot")), "/")
		if !strings.HasPrefix(strings.ToLower(name), "http") {
			name = "http://" + name
		}
		// The database compares without regard to case.
		if p := m.peer(func(p *mnetPeer) bool { return strings.EqualFold(p.Wwwroot.String(), name) }); p != nil {
			hostID = p.id
		}
	}
	p := m.peerID(hostID)
	switch {
	case q.s.loginAs():
		q.fail("You can't begin a remote session while you are logged in as another user.")
		return
	case q.s.user().text("mnethostid") != strconv.Itoa(localHostID):
		q.fail("You do not have permission to begin a remote session from this Moodle server.")
		return
	case p == nil || !p.Subscribes(gateway.ServiceSSOSP):
		q.fail("This server is not configured for remote login.")
		return
	}
	token := randomText(40, hexAlphabet)
	m.saveRow(mnetSession{
		userID: q.s.currentID(), username: q.s.user().text("username"), hostID: p.id,
		userAgent: userAgentHash(q.r), token: token, confirmBy: q.now().Add(tokenLife), sid: q.s.sid,
	})
	q.redirect(p.Wwwroot.String() + p.Application.LandPath() + "?token=" + token +
		"&idp=" + m.wwwroot.String() + "&wantsurl=" + phpEscape(query.Get("wantsurl")))
}

// jumpPath is the jump as $SESSION->wantsurl remembers it: the three
// parameters that Moodle knows and no others.
func jumpPath(query url.Values) string {
	path, sep := "/auth/mnet/jump.php", "?"
	for _, name := range []string{"hostid", "hostwwwroot", "wantsurl"} {
		if v := query.Get(name); v != "" {
			path += sep + name + "=" + strings.ReplaceAll(url.QueryEscape(v), "+", "%20")
			sep = "&"
		}
	}
	return path
}

// phpEscape is PHP's urlencode.
func phpEscape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "~", "%7E") }

// userAuthorise finds the token and, as stock Moodle does, leaves it where it
// is and does not ask whom it was made for.
func (m *mnetSite) userAuthorise(_ context.Context, _ *mnetPeer, params []mnet.Value) (mnet.Value, error) {
	if len(params) < 2 {
		return nil, errMissingParameters
	}
	token, ua := mnet.Text(params[0]), mnet.Text(params[1])
	rows := m.selectRows(func(r mnetSession) bool { return r.token == token && r.userAgent == ua }, false)
	if len(rows) == 0 {
		return nil, &mnet.Fault{Code: mnet.FaultNoSession, String: "Authorisation failed: the mnet session does not exist."}
	}
	if rows[0].confirmBy.Unix() < m.now().Unix() {
		return nil, &mnet.Fault{Code: mnet.FaultSessionTimedOut, String: "Authorisation failed: the mnet session has timed out."}
	}
	u, ok := m.users.byID(rows[0].userID)
	if !ok {
		return nil, &mnet.Fault{Code: mnet.FaultUserMismatch, String: "Authorisation failed: the user does not match."}
	}
	profile := mnet.Struct{
		{Name: "auth", Value: "mnet"}, {Name: "username", Value: u.Username},
		{Name: "firstname", Value: u.FirstName}, {Name: "lastname", Value: u.LastName},
		{Name: "email", Value: u.Email}, {Name: "city", Value: u.City}, {Name: "country", Value: u.Country},
		{Name: "lang", Value: u.Lang}, {Name: "timezone", Value: u.Timezone},
		{Name: "picture", Value: cmp.Or(u.Picture, "0")}, {Name: "description", Value: u.Description},
		{Name: "mailformat", Value: u.MailFormat}, {Name: "maildigest", Value: u.MailDigest},
		{Name: "maildisplay", Value: u.MailDisplay}, {Name: "wwwroot", Value: m.wwwroot.String()},
		{Name: "session.gc_maxlifetime", Value: "1440"},
	}
	if len(u.Icon) > 0 {
		profile = append(profile, mnet.Member{Name: "_mnet_userpicture_timemodified", Value: unixText(u.IconTime)},
			mnet.Member{Name: "_mnet_userpicture_mimetype", Value: http.DetectContentType(u.Icon)})
	}
	return append(profile, mnet.Member{Name: "myhosts", Value: mnet.Array{}}), nil
}

func updateEnrolments(_ context.Context, _ *mnetPeer, params []mnet.Value) (mnet.Value, error) {
	if len(params) < 2 {
		return nil, errMissingParameters
	}
	courses, ok := mnet.Map(params[1])
	switch {
	case !ok:
		return false, nil
	case len(courses) == 0:
		return true, nil
	}
	return nil, nil
}

func (m *mnetSite) keepaliveServer(_ context.Context, _ *mnetPeer, params []mnet.Value) (mnet.Value, error) {
	if len(params) < 1 {
		return nil, errMissingParameters
	}
	names, _ := params[0].(mnet.Array)
	code, text := 0, "All ok"
	for _, name := range names {
		if len(m.selectRows(func(r mnetSession) bool { return r.username == mnet.Text(name) }, false)) > 0 {
			code, text = 0, "All ok"
			break
		}
		code, text = 1, "We failed to refresh the session for the following usernames: \n"+mnet.Text(name)+"\n\n"
	}
	return mnet.Struct{
		{Name: "code", Value: code}, {Name: "message", Value: text}, {Name: "last log id", Value: "0"},
	}, nil
}

func (m *mnetSite) killChildrenMethod(ctx context.Context, caller *mnetPeer, params []mnet.Value) (mnet.Value, error) {
	if len(params) < 2 {
		return nil, errMissingParameters
	}
	u, ok := m.users.byName(mnet.Text(params[0]), localHostID)
	if !ok {
		return "Could find no remote sessions\n", nil
	}
	report := m.killChildren(ctx, u.ID, u.Username, mnet.Text(params[1]), caller.id)
	return report, m.endSessions(ctx, u.ID)
}

func (m *mnetSite) fetchUserImage(_ context.Context, _ *mnetPeer, params []mnet.Value) (mnet.Value, error) {
	if len(params) < 1 {
		return nil, errMissingParameters
	}
	u, ok := m.users.byName(mnet.Text(params[0]), localHostID)
	if !ok {
		return false, nil
	}
	return iconStruct(&u), nil
}

func (m *mnetSite) fetchThemeInfo(context.Context, *mnetPeer, []mnet.Value) (mnet.Value, error) {
	return mnet.Struct{
		{Name: "themename", Value: "boost"}, {Name: "logourl", Value: m.url("/theme/boost/images/logo.jpg")},
	}, nil
}
