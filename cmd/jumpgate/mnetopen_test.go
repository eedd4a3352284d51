package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway/mnet"
)

const captures = "../../gateway/mnet/testdata/captures"

// openMessage runs jumpgate mnet open.
func openMessage(t *testing.T, stdin string, args ...string) said {
	t.Helper()
	var out, errs bytes.Buffer
	term := &terminal{ctx: t.Context(), stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs}
	code := term.run(append([]string{"mnet", "open"}, args...))
	return said{out.String(), errs.String(), code}
}

// capturedKeys are the flags with all recorded keys.
func capturedKeys() []string {
	var flags []string
	for _, name := range []string{"idp", "sp", "sp2", "sp2-old", "stranger"} {
		flags = append(flags, "--key", filepath.Join(captures, "keys", name+".key.b64"))
	}
	return flags
}

// senders are the recorded certificates that belong to a recorded wwwroot.
var senders = map[string]string{"http://idp.test:8080": "idp", "http://sp.test:8090": "sp", "http://sp2.test": "sp2", "http://stranger.test": "stranger"}

func TestEveryCaptureIsOpenedAndJudged(t *testing.T) {
	// What was signed with another key than the sender's current one.
	bad := map[string]bool{
		"err-wrong-signing-key/request": true, // a stranger's
		"fault-7025-old-key/response":   true, // the old key
		"go-other-peer-redeems/request": true, // the old key, then the current one
	}
	opened := 0
	err := filepath.WalkDir(captures, func(path string, d fs.DirEntry, err error) error {
		if base := filepath.Base(path); err != nil || base != "request.xml" && base != "response.xml" {
			return err
		}
		name, _ := filepath.Rel(captures, strings.TrimSuffix(path, ".xml"))
		args := append(capturedKeys(), "--json", path)
		var got looked
		if err := json.Unmarshal([]byte(openMessage(t, "", args...).out), &got); err != nil {
			t.Errorf("%s: %v", name, err)
			return nil
		}
		if got.XMLRPC == nil || len(got.Errors) > 0 || !got.Good {
			t.Errorf("%s: %+v", name, got)
			return nil
		}
		if got.Signed != nil {
			if got.Signed.Signature != "unknown" {
				t.Errorf("%s: the signature is %s without a certificate", name, got.Signed.Signature)
			}
			sender := senders[got.Signed.Wwwroot]
			if sender == "" {
				t.Fatalf("%s: from %s", name, got.Signed.Wwwroot)
			}
			args = append(args, "--peer-cert", filepath.Join(captures, "keys", sender+".cert.pem"))
		}
		again := openMessage(t, "", args...)
		got = looked{}
		if err := json.Unmarshal([]byte(again.out), &got); err != nil {
			t.Fatal(err)
		}
		want := "good"
		if bad[name] {
			want = "bad"
		}
		if got.Signed != nil && got.Signed.Signature != want || got.Good != (want == "good") || (again.code == 0) != got.Good {
			t.Errorf("%s: %+v with exit code %d; want a %s signature", name, got, again.code, want)
		}
		checkRaw(t, name, got, args)
		opened++
		return nil
	})
	if err != nil || opened < 80 {
		t.Errorf("%d messages, %v", opened, err)
	}
}

// checkRaw runs the command with --raw instead of --json.
func checkRaw(t *testing.T, name string, found looked, args []string) {
	t.Helper()
	for i, arg := range args {
		if arg == "--json" {
			args[i] = "--raw"
		}
	}
	got := openMessage(t, "", args...)
	if found.Sealed == nil || found.Signed == nil || found.Signed.Signature != "good" {
		if got.out != "" || got.code != exitFailure || !strings.Contains(got.err, "jumpgate: error: ") {
			t.Errorf("%s: raw: %+v", name, got)
		}
		return
	}
	want, err := os.ReadFile(filepath.Join(captures, name+".xmlrpc.xml"))
	if name == "ok-replayed-envelope/request" { // only its envelope is recorded
		want, err = []byte(got.out), nil
	}
	if err != nil || got.out != string(want) || got.code != 0 || !strings.HasPrefix(got.out, "<?xml") {
		t.Errorf("%s: raw: %v, exit code %d\n%s", name, err, got.code, cmp.Diff(string(want), got.out))
	}
}

func TestAMessageIsExplained(t *testing.T) {
	at := func(name string) string { return filepath.Join(captures, name) }
	sp, idp := at("keys/sp.cert.pem"), at("keys/idp.cert.pem")
	ours, theirs := at("keys/idp.key.b64"), at("keys/sp.key.b64")
	recorded := func(name string) string {
		b, err := os.ReadFile(at(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, test := range []struct {
		name, stdin string
		args        []string
		out, err    []string // what stands in it; an err means exit code 1
	}{
		{"a request", "", []string{at("user_authorise/request.xml"), "--key", ours, "--peer-cert", sp}, []string{
			"sealed   by http://sp.test:8090 (claimed), 1760 bytes, for an RSA key of 2048 bits\n",
			"opened with " + ours + "\n",
			"message fc05acbb417fc444af98e19a36d0cca7892c20e067574ec1b741f806e27c0162; a second one with this id is a replay\n",
			"signed   by http://sp.test:8090 (claimed), at 2026-11-22T08:35:36Z\n",
			"the signature verifies with SHA256:eff43863fca4e3810bcdc0d54549a325d12f26e13dd76720bbf6dbe13c59193d\n",
			"call     auth/mnet/auth.php/user_authorise\n         1: \"4b9b60b502d40dfdee5a2c65dd40c60a6c37b3be\"\n",
		}, nil},
		{"a request on standard input", recorded("user_authorise/request.xml"), []string{"-", "--key", ours}, []string{
			"call     auth/mnet/auth.php/user_authorise\n", "nobody can say whether the signature verifies: give the sender's certificate with --peer-cert",
		}, nil},
		{"an answer", "", []string{at("user_authorise/response.xml"), "--key", theirs, "--peer-cert", idp}, []string{
			"answer   {\n           auth: \"mnet\"\n           username: \"learner1\"\n",
		}, nil},
		{"an answer for another key", "", []string{at("user_authorise/response.xml"), "--key", ours, "--key", theirs, "--peer-cert", idp}, []string{
			"remark   it was sealed for another key than the first one given",
		}, nil},
		{"with the wrong certificate", "", []string{at("user_authorise/response.xml"), "--key", theirs, "--peer-cert", sp}, []string{
			"the signature does not verify with SHA256:eff43863", "does not name http://idp.test:8080", "answer   {",
		}, []string{"the signature does not verify with the sender's certificate", "compare its fingerprint"}},
		{"without a key", "", []string{at("user_authorise/response.xml")}, []string{
			"sealed   by http://idp.test:8080 (claimed)",
		}, []string{"the message is sealed for none of our keys", "with --key: a request is sealed for whom it asks"}},
		{"with another key", "", []string{at("user_authorise/response.xml"), "--key", ours}, nil,
			[]string{"the message is sealed for none of our keys", "give all keys of the receiver"}},
		{"a new certificate", "", []string{at("fault-7025-old-key/response.xml"), "--key", ours, "--peer-cert", at("keys/sp2-old.cert.pem")}, []string{
			"fault    7025 certificate SHA256:90b7d49c8692aa9e9b6ba0b31c7bb1ce750fba221fe079fe919575fb54f1c212, valid until 2026-12-20\n",
			"it means: the call was sealed for an old key of the peer", "the signature verifies",
		}, nil},
		{"a plain fault", "", []string{at("err-unknown-peer/response.xml")}, []string{
			"fault    0 \"Coding error", "it means: the peer does not know our wwwroot", "anybody on the way may have written it",
		}, nil},
		{"a keyswap", "", []string{at("system-keyswap/request.xml")}, []string{
			"call     system/keyswap\n         1: \"http://", "2: certificate SHA256:", "a keyswap travels in the open",
		}, nil},
		{"a call that is not sealed", "", []string{at("err-signed-not-encrypted/request.xml"), "--peer-cert", sp}, []string{
			"the call is not sealed: a peer answers it with fault 7021",
		}, nil},
		{"a call that is not signed", "", []string{at("err-unsigned-but-encrypted/request.xml"), "--key", theirs, "--key", ours}, []string{
			"the call is not signed: a peer answers it with fault 711",
		}, nil},
		{"an old timestamp", "", []string{at("ok-timestamp-minus-1day/request.xml"), "--key", ours, "--key", theirs}, []string{
			"remark   the timestamp is ", " by this machine's clock: a gateway takes messages that are at most 5m0s off when they arrive",
		}, nil},
		{"a page", "<!DOCTYPE html>", []string{"-"}, nil, []string{"this is no message of MNet: it is a page of HTML", "record the body alone"}},
		{"a broken message", "<signedMessage></signedMessage>", []string{"-"}, nil, []string{"signed message: 0 elements SignatureValue", "damaged"}},
		{"text that plays with the terminal", "<methodCall><methodName>a&#x9b;31m</methodName></methodCall>", []string{"-"}, []string{`call     "a\u009b31m"`}, nil},
		{"a call that is broken", "<methodCall>\x7f</methodCall>", []string{"-"}, []string{`content  "<methodCall>\x7f</methodCall>"`}, []string{"xml: unexpected text", "damaged"}},
		{"no file", "", []string{"missing.xml"}, nil, []string{"open missing.xml: no such file", "give the file"}},
		{"no key file", "", []string{"-", "--key", "missing.pem"}, nil, []string{"open missing.pem", "--key"}},
		{"no certificate file", "", []string{"-", "--peer-cert", "missing.pem"}, nil, []string{"open missing.pem", "--peer-cert"}},
		{"a key that is none", "", []string{"-", "--key", sp}, nil, []string{"no private key", "the file holds private keys"}},
		{"a certificate that is none", "", []string{"-", "--peer-cert", ours}, nil, []string{"no PEM certificate", "/mnet/publickey.php"}},
		{"something huge", strings.Repeat(" ", mnet.MaxBody+1), []string{"-"}, nil, []string{"- is larger than 1048576 bytes"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := openMessage(t, test.stdin, test.args...)
			for _, want := range test.out {
				if !strings.Contains(got.out, want) {
					t.Errorf("lacks %q", want)
				}
			}
			for _, want := range test.err {
				if !strings.Contains(got.err, want) {
					t.Errorf("lacks %q", want)
				}
			}
			if wantCode := min(len(test.err), 1); got.code != wantCode || (strings.Contains(got.err, "jumpgate: error: ") != (wantCode == 1)) {
				t.Errorf("exit code %d", got.code)
			}
			if strings.ContainsAny(got.out, "\x00\x1b\u009b") {
				t.Error("a control character")
			}
			if t.Failed() {
				t.Logf("%s\n%s", got.out, got.err)
			}
		})
	}
}

func TestWhatNobodyMindsIsRemarkedUpon(t *testing.T) {
	home, forum := wwwroot(t, "https://home.test"), wwwroot(t, "https://sp.test")
	now := time.Now()
	old, err := mnet.NewKey(home, now.Add(-48*time.Hour), 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	young, err := mnet.NewKey(forum, now.Add(24*time.Hour), 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, cert, file := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "message.xml")
	writeFile(t, key, string(young.PEM()))
	writeFile(t, cert, old.Certificate().PEM())
	write := func(from string, edit *strings.Replacer, at time.Time) {
		doc, err := mnet.Sign(mnet.EncodeCall("a/bc"), old, home, at)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := mnet.Seal([]byte(edit.Replace(string(doc))), young.Certificate(), wwwroot(t, from))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, string(sealed))
	}
	write("https://home.test", strings.NewReplacer("rsa-sha1", "dsa-sha1", "<DigestValue>", "<DigestValue>0"), now.Add(-72*time.Hour-time.Minute))
	got := openMessage(t, "", file, "--key", key, "--peer-cert", cert)
	for _, want := range []string{
		"opened with " + key + " " + young.Certificate().Fingerprint().String() + "\n",
		"the sender's certificate expired on ", "the receiver's certificate is valid from ", "labelled dsa-sha1", "the digest is not that of the payload",
		"the timestamp is 3 days ago",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("lacks %q", want)
		}
	}
	if got.code != 0 || got.err != "" {
		t.Errorf("%+v", got)
	}

	write("https://home.test", strings.NewReplacer(), now.Add(time.Hour))
	if got := openMessage(t, "", file, "--key", key, "--peer-cert", cert); got.code != 0 || !strings.Contains(got.out, "s ahead by this machine's clock") {
		t.Errorf("%+v", got)
	}
	write("https://home.test", strings.NewReplacer(), now)
	if got := openMessage(t, "", file, "--key", key, "--peer-cert", cert); got.code != 0 || strings.Contains(got.out, "timestamp is") {
		t.Errorf("%+v", got)
	}

	write("https://other.test", strings.NewReplacer(), now)
	got = openMessage(t, "", file, "--key", key, "--peer-cert", cert)
	if got.code != 1 || !strings.Contains(got.err, "error: the message is from https://other.test outside and from https://home.test inside\n") ||
		!strings.Contains(got.out, "the signature verifies") {
		t.Errorf("%+v", got)
	}
	if got := openMessage(t, "", file, "--key", key, "--peer-cert", cert, "--raw"); got.code != 0 || got.out != string(mnet.EncodeCall("a/bc")) {
		t.Errorf("%+v", got)
	}

	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := openMessage(t, "", file, "--key", key); got.code != 1 || !strings.Contains(got.err, "warning: "+key+" is a private key, and its mode 0644 lets others at it\n") {
		t.Errorf("%+v", got)
	}
	if got := openMessage(t, "", file, "--raw", "--json"); got.code != exitUsage {
		t.Errorf("%+v", got)
	}
}
