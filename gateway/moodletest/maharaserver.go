package moodletest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// maharaError is an exception of Mahara's server. Nobody sees its text.
type maharaError struct {
	code int
	text string
}

func (e *maharaError) Error() string { return e.text }

const (
	maharaFault     = "A nonrecoverable error occurred. This probably means you have encountered a bug in the system"
	maharaNoKey     = "We know nothing about the key used to encrypt this message"
	maharaNoKill    = "This host is not permitted to kill sessions for this username"
	maharaNoSession = "No such session exists"
)

// serveRPC is /api/xmlrpc/server.php (source). All faults leave it in the clear
// and say the same, whatever the request was wrapped in, save one: 7025 is
// signed, with the new key, and sealed, and its text is the new certificate, or
// a sentence if no key at all fits. It has no look at timestamps.
func (m *Mahara) serveRPC(w http.ResponseWriter, r *http.Request) {
	m.ready(r.Context())
	var call Call
	doc, err := m.answer(r, &call)
	if failed, ok := errors.AsType[*maharaError](err); ok {
		call.Fault = failed.code
	}
	m.note(call)
	if err != nil {
		doc = mnet.EncodeFault(&mnet.Fault{Code: call.Fault, String: maharaFault})
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Write(doc)
}

func (m *Mahara) answer(r *http.Request, call *Call) ([]byte, error) {
	if host, _, _ := strings.Cut(r.Host, ":"); !strings.EqualFold(host, m.wwwroot.Hostname()) {
		return nil, &maharaError{6013, "Networking is not available at this address."}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, mnet.MaxBody))
	if err != nil {
		return nil, err
	}
	root, err := parseNode(body)
	if err != nil {
		return nil, &maharaError{6001, "Payload is not a valid XML document"}
	}
	ctx, payload, encrypted, signed := r.Context(), body, false, false
	keys := m.keys.all()
	if root.name == "encryptedMessage" {
		encrypted, call.Peer = true, root.get("wwwroot")
		opened, err := openNode(root, keys)
		switch {
		case err != nil:
			return m.newKey(ctx, call, maharaNoKey)
		case opened.Key > 0:
			return m.newKey(ctx, call, keys[0].Certificate().PEM())
		}
		payload = opened.Plaintext
		if root, err = parseNode(payload); err != nil {
			return nil, &maharaError{6002, "Encrypted payload is not a valid XML document"}
		}
	}
	if root.name == "signedMessage" {
		signed, call.Peer = true, root.get("wwwroot")
		if payload, err = m.verified(ctx, root, 0); err != nil {
			return nil, err
		}
		if root, err = parseNode(payload); err != nil {
			return nil, &maharaError{6007, "Signed payload is not a valid XML document"}
		}
	}
	if root.name != "methodCall" {
		return nil, &maharaError{6009, "Unrecognized XML document form"}
	}
	v, err := m.dispatch(call, payload, encrypted && signed)
	if err != nil {
		return nil, err
	}
	return m.pack(ctx, call.Peer, maharaResponse(v), signed, encrypted)
}

// newKey answers a message that the current key does not open.
func (m *Mahara) newKey(ctx context.Context, call *Call, text string) ([]byte, error) {
	call.Fault = mnet.FaultNewKey
	doc, err := m.pack(ctx, call.Peer, mnet.EncodeFault(&mnet.Fault{Code: mnet.FaultNewKey, String: text}), true, true)
	return doc, err
}

// pack signs with the current key and seals for the caller.
func (m *Mahara) pack(ctx context.Context, caller string, doc []byte, sign, seal bool) ([]byte, error) {
	if sign {
		signed, err := mnet.Sign(doc, m.keys.current(), m.wwwroot, m.options.Now())
		if err != nil {
			return nil, err
		}
		doc = maharaSign(signed)
	}
	if !seal {
		return doc, nil
	}
	p := m.peerNamed(caller)
	if p == nil {
		return nil, &maharaError{6003, "We don't have a record for your webserver (" + caller + ") in our database"}
	}
	certificate, err := m.get(ctx, p)
	if err != nil {
		return nil, err
	}
	sealed, err := mnet.Seal(doc, certificate, m.wwwroot)
	return maharaSeal(sealed), err
}

var maharaMethodName = regexp.MustCompile(`^[A-Za-z0-9]+/[A-Za-z0-9/_-]+(\.php/)?[A-Za-z0-9_-]+$`)

// maharaMethods are the services with those of their methods that concern
// sign-on.
var maharaMethods = []struct {
	service string
	methods []string
}{
	{"sso_in", nil},
	{"sso_out", []string{"user_authorise", "fetch_user_image", "update_enrolments", "keepalive_server", "kill_children", "kill_child"}},
	{"portfolio_in", nil},
	{"repository_out", nil},
}

func (m *Mahara) dispatch(call *Call, payload []byte, trusted bool) (mnet.Value, error) {
	var err error
	if call.Method, call.Params, err = mnet.DecodeCall(payload); err != nil {
		return nil, &maharaError{6008, "Payload is not an XML-RPC document"}
	}
	param := func(i int) string { return mnet.Text(call.Params[i]) }
	name, ours := strings.CutPrefix(call.Method, "auth/mnet/auth.php/")
	switch {
	case !maharaMethodName.MatchString(call.Method):
		return nil, &maharaError{6010, "The function does not exist"}
	case call.Method == "system/keyswap":
		return m.keys.current().Certificate().PEM(), nil
	case !trusted:
		return nil, &maharaError{6005, "The signature on your message was not valid"}
	case call.Method == "system/listServices":
		list := mnet.Array{}
		for _, s := range maharaMethods {
			list = append(list, mnet.Struct{{Name: "name", Value: s.service}, {Name: "apiversion", Value: 1}, {Name: "publish", Value: 1}, {Name: "subscribe", Value: 1}})
		}
		return list, nil
	case call.Method == "system/listMethods": // a map, as nowhere else
		list := mnet.Struct{}
		for _, s := range maharaMethods {
			for _, method := range s.methods {
				list = append(list, mnet.Member{Name: "auth/mnet/auth.php/" + method, Value: method})
			}
		}
		return list, nil
	case !ours || !slices.Contains(maharaMethods[1].methods, name):
		return nil, &maharaError{0, "No such method: " + call.Method}
	case name == "update_enrolments" || name == "keepalive_server": // not implemented
		return true, nil
	case len(call.Params) < 1 || len(call.Params) < 2 && name != "fetch_user_image":
		return nil, &maharaError{0, "[ArgumentCountError]: Too few arguments"}
	}
	switch name {
	case "user_authorise":
		return m.userAuthorise(param(0))
	case "kill_children":
		return m.killChildren(call.Peer, param(0)), nil
	case "kill_child": // whatever the browser
		u, ok := m.remoteUser(call.Peer, param(0))
		if ok {
			m.endSessions(u.ID)
		}
		return ok, nil
	}
	u, ok := m.remoteUser(call.Peer, param(0)) // fetch_user_image
	switch {
	case !ok:
		return false, nil
	case len(u.Icon) == 0:
		return nil, nil
	}
	return iconStruct(&u), nil
}

// remoteUser is find_remote_user.
func (m *Mahara) remoteUser(caller, username string) (User, bool) {
	p := m.peerNamed(caller)
	if p == nil {
		return User{}, false
	}
	return m.users.byName(strings.ToLower(username), p.id+localHostID)
}

// userAuthorise asks neither whose token it is nor from which browser, and
// leaves it where it is.
func (m *Mahara) userAuthorise(token string) (mnet.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, j := range m.jumps {
		if j.token != token {
			continue
		}
		if j.expires.Before(m.options.Now()) {
			return nil, &maharaError{0, "This session has timed out"}
		}
		u, _ := m.users.byID(id)
		return mnet.Struct{
			{Name: "username", Value: u.Username}, {Name: "email", Value: u.Email}, {Name: "auth", Value: "mnet"},
			{Name: "confirmed", Value: 1}, {Name: "deleted", Value: 0},
			{Name: "firstname", Value: u.FirstName}, {Name: "lastname", Value: u.LastName},
			{Name: "city", Value: u.City}, {Name: "country", Value: u.Country}, {Name: "myhosts", Value: mnet.Array{}},
		}, nil
	}
	return nil, &maharaError{0, maharaNoSession}
}

// killChildren ends the local sessions of a local user and tells nobody else.
func (m *Mahara) killChildren(caller, username string) mnet.Value {
	u, ok := m.users.byName(username, localHostID)
	if p := m.peerNamed(caller); !ok || p == nil || !p.Publishes(gateway.ServiceSSOIDP) {
		return maharaNoKill
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if j, ok := m.jumps[u.ID]; ok { // only the session that jumped
		delete(m.sessions, j.cookie)
		delete(m.jumps, u.ID)
	}
	return true
}
