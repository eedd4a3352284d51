package mnet

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func TestAMethodThatNobodyHasIsPassedOn(t *testing.T) {
	const elsewhere = "enrol/mnet/enrol.php/available_courses"
	type passed struct {
		method  string
		message []byte
	}
	sealed := func(s *site) ([]byte, error) {
		return seal(t, EncodeResponse("from behind"), recordedKey(t, "sp"), s.Site), nil
	}
	for name, c := range map[string]struct {
		method string
		answer func(*site) ([]byte, error)
		passed bool
		want   Value // of an answer that came from behind
		code   int   // or of a fault of ours
		reason string
	}{
		"answered":                   {elsewhere, sealed, true, "from behind", 0, ReasonPassed},
		"nobody there":               {elsewhere, func(*site) ([]byte, error) { return nil, nil }, true, nil, FaultNoMethod, ReasonUnknownMethod},
		"it fails there":             {elsewhere, func(*site) ([]byte, error) { return nil, errors.New("secret detail") }, true, nil, FaultNoMethod, ReasonUnknownMethod},
		"a plain fault from there":   {elsewhere, func(*site) ([]byte, error) { return EncodeFault(&Fault{Code: 7023}), nil }, true, nil, FaultNoMethod, ReasonUnknownMethod},
		"a page from there":          {elsewhere, func(*site) ([]byte, error) { return []byte("<html>"), nil }, true, nil, FaultNoMethod, ReasonUnknownMethod},
		"a method of ours":           {refuse, sealed, false, nil, FaultNoSession, ReasonFault},
		"ours in other letters":      {"test/lib.php/REFUSE", sealed, false, nil, FaultNoMethod, ReasonUnknownMethod},
		"an unknown system method":   {"system/selfDestruct", sealed, false, nil, FaultNoSystemMethod, ReasonUnknownMethod},
		"an idle system method":      {"system/listFiles", sealed, false, nil, FaultNotImplemented, ReasonUnknownMethod},
		"a malformed name":           {"../../etc/passwd", sealed, false, nil, FaultMethodName, ReasonMethodName},
		"ours, without its argument": {echo, sealed, false, nil, FaultParameters, ReasonParameters},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			var got *passed
			s.Pass = func(_ context.Context, call *Call, message []byte) ([]byte, error) {
				got = &passed{call.Method, message}
				return c.answer(s)
			}
			message := s.call(c.method)
			w, event := s.post(message, home)
			if (got != nil) != c.passed {
				t.Fatalf("passed: %v", got != nil)
			}
			if got != nil && (got.method != c.method || !bytes.Equal(got.message, message)) {
				t.Errorf("passed on %s", got.method)
			}
			_, v, err := s.read(w.Body.Bytes(), "sp")
			fault, _ := errors.AsType[*Fault](err)
			if c.want != nil && (v != c.want || err != nil) || c.want == nil && (fault == nil || fault.Code != c.code) || event.Reason != c.reason {
				t.Errorf("answer %v, %v for %s", v, err, event.Reason)
			}
			if bytes.Contains(w.Body.Bytes(), []byte("secret detail")) {
				t.Error("the peer is told details")
			}
		})
	}
}

func TestOnlyAFreshCallOfAPeerIsPassedOn(t *testing.T) {
	s := newSite(t)
	calls := 0
	s.Pass = func(context.Context, *Call, []byte) ([]byte, error) {
		calls++
		return seal(t, EncodeResponse("from behind"), recordedKey(t, "sp"), s.Site), nil
	}
	call := EncodeCall("enrol/mnet/enrol.php/available_courses")
	sp, idp, sp2 := recordedKey(t, "sp"), recordedKey(t, "idp"), recordedKey(t, "sp2")
	root := wwwroot(t, "http://sp.test:8090")
	fresh := envelope(t, call, sp, idp, root, s.now)
	for _, c := range []struct {
		name   string
		doc    []byte
		reason string
	}{
		{"a fresh one", fresh, ReasonPassed},
		{"the same once more", fresh, ReasonReplay},
		{"an old one", envelope(t, call, sp, idp, root, s.now.Add(-2*DefaultWindow)), ReasonTimestamp},
		{"signed by another peer", envelope(t, call, sp2, idp, root, s.now), ReasonBadSignature},
		{"of a stranger", envelope(t, call, sp, idp, wwwroot(t, "http://stranger.test"), s.now), ReasonUnknownPeer},
		{"for an archived key", envelope(t, call, sp, s.Keys()[1], root, s.now), ReasonOldKey},
		{"plain", call, ReasonNotSealed},
	} {
		if _, event := s.post(c.doc, home); event.Reason != c.reason {
			t.Errorf("%s: %s", c.name, event.Reason)
		}
	}
	s.replays.err = errors.New("redis is down")
	if _, event := s.post(s.call("enrol/mnet/enrol.php/enrol_user"), home); event.Reason != ReasonReplaysFailed {
		t.Errorf("with replays unknown: %s", event.Reason)
	}
	if calls != 1 {
		t.Errorf("%d calls were passed on", calls)
	}
}

func TestAMethodMayNoteWhyItGaveLess(t *testing.T) {
	s := newSite(t)
	detail := errors.New("nobody there")
	s.Methods = append(s.Methods, Method{Name: "test/lib.php/noting", Service: gateway.ServiceSSOIDP, Call: func(_ context.Context, c *Call) (Value, error) {
		c.Note("not-theirs", detail)
		return true, nil
	}})
	w, event := s.post(s.call("test/lib.php/noting"), home)
	_, v, err := s.read(w.Body.Bytes(), "sp")
	if v != true || err != nil || event.Reason != "not-theirs" || event.Err != detail || event.Fault != nil {
		t.Errorf("answer %v, %v, event %+v", v, err, event)
	}
}

func TestAServiceThatIsOnlySubscribedToIsNotPublished(t *testing.T) {
	s := newSite(t)
	peer, _, _ := s.Peer(t.Context(), "http://sp.test:8090")
	peer.Publish = nil
	s.Pass = func(context.Context, *Call, []byte) ([]byte, error) {
		t.Error("it was passed on")
		return nil, nil
	}
	for subscribe, code := range map[string]int{gateway.ServiceSSOIDP: FaultNotPublished, gateway.ServiceSSOSP: FaultNoMethod} {
		peer.Subscribe = []string{subscribe}
		w, event := s.post(s.call(echo, "x"), home)
		_, _, err := s.read(w.Body.Bytes(), "sp")
		if fault, _ := errors.AsType[*Fault](err); fault == nil || fault.Code != code || event.Reason != ReasonNotPublished {
			t.Errorf("subscribed to %s: %v for %s", subscribe, err, event.Reason)
		}
	}
}

// shape is a value without its sentences.
func shape(v Value) Value {
	switch v := v.(type) {
	case Struct:
		out := Struct{}
		for _, m := range v {
			if m.Name == "description" {
				m.Value = m.Value.(string) != ""
			}
			out = append(out, Member{m.Name, shape(m.Value)})
		}
		return out
	case Array:
		out := Array{}
		for _, item := range v {
			out = append(out, shape(item))
		}
		return out
	}
	return v
}

func TestMethodsAreDescribedAsAMoodleDoes(t *testing.T) {
	s := newSite(t)
	for name := range descriptions {
		s.Methods = append(s.Methods, Method{Name: "auth/mnet/auth.php/" + name, Service: gateway.ServiceSSOIDP})
	}
	ask := func(method string, params ...Value) Value {
		t.Helper()
		w, event := s.post(s.call(method, params...), home)
		_, v, err := s.read(w.Body.Bytes(), "sp")
		if err != nil || event.Reason != ReasonOK {
			t.Errorf("%s: %v, %s", method, err, event.Reason)
		}
		return v
	}
	recorded, err := DecodeResponse(readCapture(t, "system-methodSignature/response.xmlrpc.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shape(recorded), shape(ask(methodSignature, "auth/mnet/auth.php/user_authorise"))); diff != "" {
		t.Errorf("signature (-recorded +ours):\n%s", diff)
	}
	for name := range descriptions {
		if help, _ := ask(methodHelp, "auth/mnet/auth.php/"+name).(string); help == "" {
			t.Errorf("no help for %s", name)
		}
		if _, ok := ask(methodSignature, "auth/mnet/auth.php/"+name).(Struct); !ok {
			t.Errorf("no signature of %s", name)
		}
	}
	for _, method := range []string{methodHelp, methodSignature} {
		for _, about := range [][]Value{nil, {""}, {"no/such.php/thing"}, {"system/listMethods"}, {Array{}}, {7}} {
			if v := ask(method, about...); v != false {
				t.Errorf("%s of %v: %v", method, about, v)
			}
		}
	}
	peer, _, _ := s.Peer(t.Context(), "http://sp.test:8090")
	peer.Publish = nil
	if v := ask(methodHelp, "auth/mnet/auth.php/user_authorise"); v != false {
		t.Errorf("help for what is not published: %v", v)
	}
}
