/* SPDX-License-Identifier: MIT
 *
 * mqtt_words.h - reason codes of MQTT 5 in words.
 */
#ifndef OB_MQTT_WORDS_H
#define OB_MQTT_WORDS_H

/* Never NULL. */
const char *ob_mqtt_reason(int reason);

#endif
