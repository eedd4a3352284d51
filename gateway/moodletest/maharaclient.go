package moodletest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// maxRefreshes is how often the stand-in asks for a new key while it verifies
// the answer to that question. Mahara has no limit.
const maxRefreshes = 3

// Call calls a method of a peer that the site knows, as Mahara's client does.
func (m *Mahara) Call(ctx context.Context, wwwroot, method string, params ...mnet.Value) (mnet.Value, error) {
	p := m.peerNamed(wwwroot)
	if p == nil {
		return nil, fmt.Errorf("we don't have a record for your webserver (%s) in our database", wwwroot)
	}
	return m.call(ctx, p, method, params...)
}

func (m *Mahara) call(ctx context.Context, p *maharaPeer, method string, params ...mnet.Value) (mnet.Value, error) {
	return m.send(ctx, p, maharaCall(method, params...), 0)
}

// send is Client.send of api/xmlrpc/client.php (source). What it makes of an
// answer:
//
//   - one without an envelope is null, be it a value or a fault
//   - one that is sealed but not signed is as good as any
//   - a signature is compared before anything else is read; if it does not fit,
//     any call is made in the hope of a fault 7025, whose signature is compared
//     in the same way: one that was made with the new key makes it ask for ever
//   - a fault 7025 is taken, the call is sent once more, and then it fails
//     nevertheless: the result of the second attempt is lost
//   - a time that is ahead is refused, one that is behind is not
func (m *Mahara) send(ctx context.Context, p *maharaPeer, call []byte, refreshes int) (mnet.Value, error) {
	certificate, err := m.get(ctx, p)
	if err != nil {
		return nil, err
	}
	key := m.keys.current()
	doc, err := mnet.Sign(call, key, m.wwwroot, m.options.Now())
	if err == nil {
		doc, err = mnet.Seal(maharaSign(doc), certificate, m.wwwroot)
	}
	if err != nil {
		return nil, err
	}
	body, err := post(ctx, m.options.Client, p.Wwwroot.String()+p.Application.RPCPath(), "Mahara", "text/xml charset=UTF-8", maharaSeal(doc))
	if err != nil {
		return nil, err
	}
	received := m.options.Now()
	root, err := parseNode([]byte(phpTrim(string(body))))
	if err != nil {
		return nil, errors.New("payload is not a valid XML document")
	}
	var payload []byte
	if root.name == "encryptedMessage" {
		opened, err := openNode(root, m.keys.all())
		if err != nil {
			return nil, fmt.Errorf("an error occurred while decrypting a message sent by %s", root.get("wwwroot"))
		}
		payload = opened.Plaintext
		if root, err = parseNode(payload); err != nil {
			return nil, errors.New("encrypted payload is not a valid XML document")
		}
	}
	timestamp := ""
	if root.name == "signedMessage" {
		timestamp = root.get("timestamp")
		if payload, err = m.verified(ctx, root, refreshes); err != nil {
			return nil, err
		}
		if root, err = parseNode(payload); err != nil {
			return nil, errors.New("signed payload is not a valid XML document")
		}
	}
	if root.name != "methodResponse" {
		return nil, fmt.Errorf("unrecognized XML document form: %.200s", payload)
	}
	if seconds, _ := strconv.ParseInt(phpTrim(timestamp), 10, 64); seconds != 0 &&
		time.Unix(seconds, 0).Sub(received.Truncate(time.Second)) > m.options.MaxTimeDifference {
		return nil, fmt.Errorf("time drift (0, %d) is too large", seconds-received.Unix())
	}
	if payload == nil {
		return nil, nil
	}
	v, err := mnet.DecodeResponse(payload)
	fault, ok := errors.AsType[*mnet.Fault](err)
	switch {
	case ok && fault.Code == mnet.FaultNewKey:
		renewed, err := gateway.ParseCertificate([]byte(fault.String))
		if err != nil {
			return nil, errors.New("could not parse new public key")
		}
		p.pin(renewed)
		if _, err := m.send(ctx, p, call, refreshes); err != nil {
			return nil, err
		}
		return nil, errors.New("unknown error occurred: : ")
	case ok:
		return nil, fmt.Errorf("unknown error occurred: %w", fault)
	}
	return latin1(v), err
}

// openNode opens an encryptedMessage: the data and its key by their places.
func openNode(root *node, keys []*mnet.Key) (mnet.Opened, error) {
	data := root.get("EncryptedData", "CipherData", "CipherValue")
	key := root.get("EncryptedKey", "CipherData", "CipherValue")
	return mnet.OpenCiphertexts(phpBase64(data), phpBase64(key), keys...)
}

// verified is xmldsig_envelope_strip: the wwwroot inside says whose signature
// it has to be.
func (m *Mahara) verified(ctx context.Context, root *node, refreshes int) ([]byte, error) {
	signature, payload := root.get("Signature", "SignatureValue"), phpBase64(root.get("object"))
	p := m.peerNamed(root.get("wwwroot"))
	if p == nil {
		return nil, &maharaError{6003, "We don't have a record for your webserver (" + root.get("wwwroot") + ") in our database"}
	}
	certificate, err := m.get(ctx, p)
	if err != nil {
		return nil, err
	}
	if verifies(payload, signature, certificate) {
		return payload, nil
	}
	if refreshes == maxRefreshes {
		return nil, errors.New("maximum execution time of 30 seconds exceeded")
	}
	if _, err := m.send(ctx, p, maharaCall("system/listServices"), refreshes+1); err != nil {
		return nil, err
	}
	if certificate, err = m.get(ctx, p); err == nil && verifies(payload, signature, certificate) {
		return payload, nil
	}
	return nil, &maharaError{6004, "An error occurred while trying to verify your message signature"}
}

// keyswap is get_public_key: two parameters, and the common name must be a part
// of the address.
func (m *Mahara) keyswap(ctx context.Context, p *maharaPeer) (*gateway.Certificate, error) {
	wwwroot := p.Wwwroot.String()
	body, err := post(ctx, m.options.Client, wwwroot+p.Application.RPCPath(), "Moodle", "text/xml charset=UTF-8",
		maharaCall("system/keyswap", m.wwwroot.String(), m.keys.current().Certificate().PEM()))
	if err != nil {
		return nil, err
	}
	v, err := mnet.DecodeResponse(body)
	if err != nil {
		return nil, err
	}
	certificate, err := gateway.ParseCertificate([]byte(mnet.Text(v)))
	if err != nil {
		return nil, err
	}
	if name, _ := subject(certificate); !strings.Contains(wwwroot, name) {
		return nil, fmt.Errorf("the remote site sent us a key that is valid for %s instead of their hostname (%s)", name, wwwroot)
	}
	return certificate, nil
}
