package moodletest

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"jumpgate/gateway/mnet"
)

// rpcMethod is a method of a service. It returns a *mnet.Fault to refuse.
type rpcMethod func(ctx context.Context, caller *mnetPeer, params []mnet.Value) (mnet.Value, error)

// The texts of stock Moodle's faults.
const (
	textNoFunction   = "Unable to locate function, or function prohibited for RPC."
	textTransport    = "The transport method you are trying to use is not permitted."
	textNotSigned    = "The signature verification failed. An error has occurred."
	textBadSignature = "The signature verification failed. It appears that this payload was not signed by you."
	textNotOpened    = "mnet/encryption-invalid"
	// Stock Moodle means 7020 and trips over its own text.
	textUnknownPeer = "Coding error detected, it must be fixed by a programmer: Cache definition core/string requires simple keys. Invalid key provided."
)

// missingParameters is what PHP's XML-RPC library says by itself when a method
// gets too few parameters; its layout differs from Moodle's own faults.
const missingParameters = `<?xml version="1.0"?>
<methodResponse>
<fault>
<value>
<struct><member><name>faultCode</name>
<value><int>17</int></value>
</member>
<member>
<name>faultString</name>
<value><string>Internal server error</string></value>
</member>
</struct>
</value>
</fault>
</methodResponse>`

var errMissingParameters = errors.New("too few parameters")

// message is a request on its way through the envelopes.
type message struct {
	caller    *mnetPeer
	encrypted bool
	signed    bool
	verified  bool
	keys      []*mnet.Key
	key       *mnet.Key // the one it was sealed for
	call      Call
}

// pushKey reports whether the caller used an old key of ours.
func (msg *message) pushKey() bool { return msg.key != msg.keys[0] }

// serveRPC is /mnet/xmlrpc/server.php of a 4.5 site in dispatcher mode strict.
// It answers as that does: signed if the request was, sealed if the request
// was, and without a look at timestamps or repetitions.
func (m *mnetSite) serveRPC(w http.ResponseWriter, r *http.Request) {
	m.ready(r.Context())
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mnet.MaxBody))
	if err != nil {
		m.plainError(w, "The request could not be read.")
		return
	}
	keys := m.keys.all()
	msg := &message{keys: keys, key: keys[0]}
	doc, ok := m.answer(r.Context(), msg, body)
	if !ok {
		m.plainError(w, "Exception - Call to a member function method() on false")
		return
	}
	m.note(msg.call)
	if msg.signed {
		doc, err = mnet.Sign(doc, msg.key, m.wwwroot, m.now())
	}
	if err == nil && msg.encrypted {
		certificate, e := msg.caller.pinned(r.Context(), m.client)
		if err = e; err == nil {
			doc, err = mnet.Seal(doc, certificate, m.wwwroot)
		}
	}
	if err != nil {
		m.plainError(w, "OpenSSL unable to seal data")
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Write(doc)
}

// plainError is the page that Moodle sends where it has no fault for.
func (m *mnetSite) plainError(w http.ResponseWriter, text string) {
	q := &request{site: m.site, w: w, r: &http.Request{URL: &url.URL{}}, s: newSession(m.now(), "")}
	q.write(http.StatusNotFound, "error.html", map[string]any{"Heading": "Error", "Message": text})
}

// fault returns the document of a fault and notes it.
func (msg *message) fault(code int, text string) []byte {
	msg.call.Fault = code
	return mnet.EncodeFault(&mnet.Fault{Code: code, String: text})
}

// answer strips the envelopes from body and returns the document of the
// answer; ok is false for what is no message at all.
func (m *mnetSite) answer(ctx context.Context, msg *message, body []byte) (doc []byte, ok bool) {
	plain := body
	if sealed := parseEnvelope(body); sealed.encrypted() {
		msg.call.Peer = sealed.wwwroot
		if msg.caller = m.peerNamed(sealed.wwwroot); msg.caller == nil {
			return msg.fault(0, textUnknownPeer), true
		}
		data, key := sealed.ciphertexts()
		opened, err := mnet.OpenCiphertexts(data, key, msg.keys...)
		if err != nil {
			return msg.fault(mnet.FaultNotOpened, textNotOpened), true
		}
		msg.encrypted, msg.key, plain = true, msg.keys[opened.Key], opened.Plaintext
	}
	if signed := parseEnvelope(plain); signed.signature != "" {
		msg.signed, msg.call.Peer = true, signed.wwwroot
		// The inner name wins, compared with nothing, unless nobody has it.
		if caller := m.peerNamed(signed.wwwroot); caller != nil {
			msg.caller = caller
		}
		plain = phpBase64(signed.object)
		msg.verified = msg.caller != nil && m.verify(ctx, msg, plain, signed.signature)
	}
	if msg.pushKey() {
		return msg.fault(mnet.FaultNewKey, msg.keys[0].Certificate().PEM()), true
	}
	method, params, err := mnet.DecodeCall(plain)
	if err != nil {
		return nil, false
	}
	msg.call.Method, msg.call.Params = method, params
	if !(msg.encrypted && msg.verified) && method != "system/keyswap" {
		switch {
		case !msg.encrypted:
			return msg.fault(mnet.FaultPlaintext, textTransport), true
		case !msg.signed:
			return msg.fault(mnet.FaultNotSigned, textNotSigned), true
		}
		return msg.fault(mnet.FaultBadSignature, textBadSignature), true
	}
	v, err := m.dispatch(ctx, msg.caller, method, params)
	var refused *mnet.Fault
	switch {
	case errors.As(err, &refused):
		return msg.fault(refused.Code, refused.String), true
	case errors.Is(err, errMissingParameters):
		msg.call.Fault = mnet.FaultParameters
		return []byte(missingParameters), true
	case err != nil:
		return msg.fault(0, err.Error()), true
	}
	return mnet.EncodeResponse(v), true
}

// verify reports whether the caller signed the payload. If the known key does
// not fit, the caller is asked which it has now; if that is another one, any call
// makes its server hand it over (section 3.4), unless the caller is about to be told
// of a new key of ours: else two sites with new keys would never stop.
func (m *mnetSite) verify(ctx context.Context, msg *message, payload []byte, signature string) bool {
	known, err := msg.caller.pinned(ctx, m.client)
	if err != nil {
		return false
	}
	if verifies(payload, signature, known) {
		return true
	}
	current, err := m.keyswap(ctx, msg.caller.Wwwroot.String(), msg.caller.Application)
	if err == nil && current.Fingerprint() == known.Fingerprint() || msg.pushKey() {
		return false
	}
	if _, err := m.call(ctx, msg.caller, "system/listServices"); err != nil {
		return false
	}
	known, err = msg.caller.pinned(ctx, m.client)
	return err == nil && verifies(payload, signature, known)
}

var methodName = regexp.MustCompile(`^[A-Za-z0-9]+/[A-Za-z0-9/_.-]+(\.php/)?[A-Za-z0-9_-]+$`)

// services are those of a 4.5 site, with their methods.
var services = map[string][]string{
	"mnet_enrol": {
		"enrol/mnet/enrol.php/available_courses", "enrol/mnet/enrol.php/course_enrolments",
		"enrol/mnet/enrol.php/enrol_user", "enrol/mnet/enrol.php/unenrol_user", "enrol/mnet/enrol.php/user_enrolments",
	},
	"sso_idp": {
		"auth/mnet/auth.php/fetch_theme_info", "auth/mnet/auth.php/fetch_user_image",
		"auth/mnet/auth.php/keepalive_server", "auth/mnet/auth.php/kill_children",
		"auth/mnet/auth.php/refresh_log", "auth/mnet/auth.php/update_enrolments", "auth/mnet/auth.php/user_authorise",
	},
	"sso_sp": {"auth/mnet/auth.php/keepalive_client", "auth/mnet/auth.php/kill_child"},
}

func (m *mnetSite) dispatch(ctx context.Context, caller *mnetPeer, method string, params []mnet.Value) (mnet.Value, error) {
	if !methodName.MatchString(method) {
		return nil, &mnet.Fault{Code: mnet.FaultMethodName, String: textNoFunction}
	}
	switch method {
	case "system/keyswap":
		return m.keys.current().Certificate().PEM(), nil
	case "system/listServices":
		return listServices(caller), nil
	case "system/listMethods":
		return listMethods(caller, params), nil
	case "system/methodSignature", "system/methodHelp":
		if len(params) == 0 {
			return nil, errMissingParameters
		}
		return describe(caller, method, mnet.Text(params[0])), nil
	case "system/listFiles", "system/retrieveFile":
		return nil, &mnet.Fault{Code: mnet.FaultNotImplemented, String: textNoFunction}
	}
	if len(method) > 7 && method[:7] == "system/" {
		return nil, &mnet.Fault{Code: mnet.FaultNoSystemMethod, String: textNoFunction}
	}
	for service, methods := range services {
		if !slices.Contains(methods, method) || m.methods[method] == nil {
			continue
		}
		switch {
		case caller.Publishes(service):
			return m.methods[method](ctx, caller, params)
		case caller.Subscribes(service):
			return nil, &mnet.Fault{Code: 707, String: textNoFunction}
		}
	}
	return nil, &mnet.Fault{Code: mnet.FaultNoMethod, String: textNoFunction}
}

func listServices(caller *mnetPeer) mnet.Array {
	list := mnet.Array{}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if caller.Publishes(name) || caller.Subscribes(name) {
			list = append(list, mnet.Struct{
				{Name: "name", Value: name}, {Name: "apiversion", Value: "1"},
				{Name: "publish", Value: flag(caller.Publishes(name))}, {Name: "subscribe", Value: flag(caller.Subscribes(name))},
			})
		}
	}
	return list
}

func listMethods(caller *mnetPeer, params []mnet.Value) mnet.Array {
	var names []string
	for service, methods := range services {
		if caller.Publishes(service) && (len(params) == 0 || mnet.Text(params[0]) == service) {
			names = append(names, methods...)
		}
	}
	slices.Sort(names)
	list := mnet.Array{}
	for _, name := range names {
		list = append(list, name)
	}
	return list
}

// describe knows the one method that people look at.
func describe(caller *mnetPeer, question, method string) mnet.Value {
	if method != "auth/mnet/auth.php/user_authorise" || !caller.Publishes("sso_idp") {
		return false
	}
	if question == "system/methodHelp" {
		return "Return user data for the provided token, compare with user_agent string."
	}
	parameter := func(name, description string) mnet.Struct {
		return mnet.Struct{{Name: "name", Value: name}, {Name: "type", Value: "string"}, {Name: "description", Value: description}}
	}
	return mnet.Struct{
		{Name: "parameters", Value: mnet.Array{
			parameter("token", "The unique ID provided by remotehost."), parameter("useragent", "User Agent string."),
		}},
		{Name: "return", Value: mnet.Struct{
			{Name: "type", Value: "array"},
			{Name: "description", Value: "$userdata Array of user info for remote host"},
		}},
	}
}
